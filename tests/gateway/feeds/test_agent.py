"""The channel of an agent: whoever follows it sees what the agent thinks, does, remembers and waits for."""

import json
from typing import Any

import anyio
import pytest

from bench.provider import Provider
from gateway.auth import LOOPBACK, READ, Caller
from gateway.feeds.feeds import Feeds
from gateway.realtime.protocol import Subscribe
from storage.pool import Pool
from tests.gateway.feeding import Recorder
from tests.gateway.feeds.test_state import _send, watching
from tests.gateway.rest.talking import new_agent
from tests.serving import Served

pytestmark = pytest.mark.timeout(90)

ENDED = ["CUSTOM:letta.stop_reason", "CUSTOM:letta.usage_statistics", "RUN_FINISHED"]
THOUGHT = "They would like to be remembered"
CALL = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}, "id": "call-1"}
PHASES = {
    "accept",
    "claim",
    "queue",
    "prompt",
    "send",
    "firstToken",
    "stream",
    "tools",
    "checkpoint",
    "compaction",
    "delivery",
}


async def followed(feeds: Feeds, agent: str, caller: Caller = LOOPBACK) -> Recorder:
    sink = Recorder()
    await feeds.subscribe(caller, Subscribe(f"agent:{agent}"), sink)
    return sink


async def talk(served: Served, provider: Provider, agent: str, seen: Recorder) -> None:
    """Let an agent think, remember and answer, while another message waits; then shorten its window."""
    await provider.script(
        [
            {"reasoning": THOUGHT, "text": "I note it.", "tool_calls": [CALL]},
            {"text": "Noted.", "gate": "go"},
            {"text": "And you."},
            {"text": "Tea was the matter."},
        ]
    )
    async with anyio.create_task_group() as group:
        group.start_soon(_send, served, agent, "I like tea")
        await provider.log(requests=2, keep=True)
        group.start_soon(_send, served, agent, "and hello")
        await shows(seen, lambda kinds: "CUSTOM:wakeful.queue" in kinds)
        await provider.open("go")
    await served.json("POST", f"/v1/agents/{agent}/summarize", json={"compaction_settings": {"mode": "all"}})
    await shows(seen, lambda kinds: kinds[-1] == "CUSTOM:letta.context_window")


async def shows(seen: Recorder, enough: Any) -> None:
    with anyio.fail_after(30):
        while not enough([frame.kind for frame in seen.frames]):
            await anyio.sleep(0.01)


def kinds_of(seen: Recorder) -> list[str]:
    return [frame.kind for frame in seen.frames]


def of(seen: Recorder, kind: str) -> list[dict[str, Any]]:
    return [data for frame, data in zip(seen.frames, seen.data, strict=True) if frame.kind == kind]


async def test_what_an_agent_thinks_does_and_waits_for_reaches_its_channel(
    pool: Pool, provider: Provider
) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": ""}])
        seen = await followed(feeds, agent)
        await talk(served, provider, agent, seen)
        assert "".join(one["delta"] for one in of(seen, "REASONING_MESSAGE_CONTENT")) == THOUGHT
        arguments = [one["delta"] for one in of(seen, "TOOL_CALL_ARGS")]
        assert len(arguments) > 1  # while they stream
        assert json.loads("".join(arguments)) == CALL["arguments"]
        assert of(seen, "TOOL_CALL_RESULT")[0]["toolCallId"] == "call-1"
        memory = of(seen, "CUSTOM:wakeful.memory")[0]["value"]
        assert (memory["label"], memory["value"].strip()) == ("human", "Likes tea")
        assert memory["diff"]
        waits = of(seen, "CUSTOM:wakeful.queue")
        assert [(one["value"]["change"], one["value"]["position"]) for one in waits] == [
            ("queued", 1),
            ("started", 0),
        ]
        timings = of(seen, "CUSTOM:wakeful.timing")
        assert len(timings) == 3
        assert all(set(one["value"]) >= PHASES for one in timings)
        assert of(seen, "CUSTOM:letta.compaction")[0]["value"]["stats"]
        ended = [kind for kind in kinds_of(seen) if kind in ENDED]
        assert ended == [*ENDED, *ENDED]
        first, after = (one["value"] for one in of(seen, "CUSTOM:letta.context_window"))
        assert first["num_tokens_core_memory"] == after["num_tokens_core_memory"] > 0
        assert (first["num_tokens_summary_memory"], after["num_tokens_summary_memory"] > 0) == (0, True)
        assert seen.offsets == list(range(seen.offsets[0], seen.offsets[0] + len(seen.offsets)))


async def test_who_may_not_see_thoughts_reads_none_of_them_on_an_agents_channel(
    pool: Pool, provider: Provider
) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": ""}])
        blind = await followed(feeds, agent, Caller("reader", scopes=frozenset((READ,))))
        await talk(served, provider, agent, blind)
        kinds = {frame.kind for frame in blind.frames}
        assert "CUSTOM:wakeful.memory" not in kinds
        assert not any(kind.startswith("REASONING") for kind in kinds)
        assert {"TEXT_MESSAGE_CONTENT", "TOOL_CALL_RESULT", "CUSTOM:wakeful.timing"} <= kinds
        assert not any(THOUGHT.encode() in frame.pub for frame in blind.frames)
