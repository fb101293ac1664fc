"""`@ag-ui/client` over the websocket, by our agent class: it ends with what an undisturbed run says."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.cutting import Plan, Proxy, cutting, never
from tests.contract.node import Node
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import Served, listening

pytestmark = pytest.mark.timeout(240)

PROGRAM = "agui_websocket.mjs"
NOWHERE = "http://127.0.0.1:1"
CALL = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes rye."}}
REPLIES = [
    {"reasoning": "Let me note that.", "text": "I note that.", "tool_calls": [CALL]},
    {"text": "It is noted, and I will think of it."},
]
BLOCKS = [{"label": "human", "value": ""}]


@asynccontextmanager
async def proxied(pool: Pool, provider: Provider) -> AsyncGenerator[tuple[Proxy, Served]]:
    async with talking(pool, provider) as served, listening(served.app) as url, cutting(url) as proxy:
        yield proxy, served


async def new_agent(served: Served) -> str:
    made = await served.agent(
        name="ada", model=MODEL, include_base_tools=True, memory_blocks=BLOCKS, reasoning=True
    )
    return made["id"]


def plain(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return what messages say, without the ids that differ from run to run."""
    return [
        (
            message["role"],
            message.get("content"),
            [call["function"] for call in message.get("toolCalls", ())],
        )
        for message in messages
    ]


async def test_a_run_says_what_the_agent_said_and_the_next_one_goes_on(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([*REPLIES, {"text": "Rye."}])
    async with proxied(pool, provider) as (proxy, served):
        agent = await new_agent(served)
        said = plain(json.loads(await node.run(PROGRAM, proxy.url, agent, "I like rye.", "What?")))
        stored = await served.json("GET", f"/v1/agents/{agent}/messages?limit=100&order=asc")
    assert [role for role, *_ in said] == [
        "user",
        "reasoning",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert said[2][1] == "I note that."
    assert said[2][2][0]["name"] == "memory_insert"
    assert said[4][1] == "It is noted, and I will think of it."
    assert said[-1][1] == "Rye."
    texts = [one["content"] for one in stored if one["message_type"] == "user_message"]
    assert texts[-2:] == ["I like rye.", "What?"]


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
async def test_a_drop_after_every_kth_frame_changes_nothing(
    pool: Pool, provider: Provider, node: Node, step: int
) -> None:
    async with proxied(pool, provider) as (proxy, served):

        async def run(plan: Plan) -> list[tuple[Any, ...]]:
            await provider.reset()
            await provider.script([reply | {"gap_ms": 3} for reply in REPLIES])
            proxy.plan, proxy.connections, proxy.frames = plan, 0, []
            agent = await new_agent(served)
            return plain(json.loads(await node.run(PROGRAM, proxy.url, agent, "I like rye.")))

        undisturbed = await run(never)
        frames = proxy.frames[0]
        assert frames > 8
        for k in (*range(1, 9), *range(9, frames, step)):
            code = (1012, 0)[k % 2]
            assert await run(every(k, code)) == undisturbed, f"a drop after every {k} frames"
            assert proxy.connections > 1 or proxy.frames[0] <= k  # frames are batches: their number varies


def every(frames: int, code: int) -> Plan:
    """Plan the end of every connection after so many frames; with two, only of the first ones."""

    def plan(connection: int, frame: int, body: bytes) -> int | None:
        if frames < 4 and connection > 10:  # with so few frames a connection brings nothing new
            return None
        return code if frame == frames else None

    return plan


async def test_a_server_that_was_restarted_in_mid_run_is_no_end_of_the_run(
    pool: Pool, provider: Provider, node: Node
) -> None:
    half = {"text": "Half of an answer that nobody hears.", "gate": "never", "gate_after": 3}
    await provider.script([REPLIES[0], half])
    async with cutting(NOWHERE) as proxy, AsyncExitStack() as stack:
        async with talking(pool, provider) as served, listening(served.app) as url:
            proxy.target = url
            agent = await new_agent(served)
            shown = anyio.Event()

            def watch(connection: int, frame: int, body: bytes) -> None:
                if b"Half" in body:
                    shown.set()

            proxy.plan = watch
            program = await stack.enter_async_context(node.start(PROGRAM, proxy.url, agent, "I like rye."))
            with anyio.fail_after(30):
                await shown.wait()
            proxy.target = NOWHERE
            proxy.cut()
        await provider.reset()
        await provider.script([REPLIES[1]])
        again = await stack.enter_async_context(talking(pool, provider))
        proxy.target = await stack.enter_async_context(listening(again.app))
        said = plain(json.loads(await program.ends(60)))
    texts = [content for role, content, _ in said if role == "assistant"]
    assert texts == ["I note that.", "It is noted, and I will think of it."]


@pytest.mark.parametrize("kind", ["tool", "image", "approval"])
async def test_what_the_agent_asks_is_answered_over_the_websocket(
    pool: Pool, provider: Provider, node: Node, kind: str
) -> None:
    call = CALL if kind == "approval" else {"name": "weather", "arguments": {"city": "Riga"}}
    await provider.script([{"tool_calls": [call]}, {"text": "It is done."}])
    async with proxied(pool, provider) as (proxy, served):
        agent = await new_agent(served)
        if kind == "approval":
            path = f"/v1/agents/{agent}/tools/approval/memory_insert"
            await served.json("PATCH", path, json={"requires_approval": True})
        said = plain(json.loads(await node.run("agui_answers.mjs", proxy.url, agent, kind)))
        answered = (await provider.log(requests=2))[-1].body["messages"][-1]["content"]
    assert [role for role, *_ in said] == ["user", "assistant", "tool", "assistant"]
    assert ("https://x.example/sky.png" in str(answered)) == (kind == "image")
    assert said[1][2][0]["name"] == call["name"]
    assert said[-1][1] == "It is done."


@pytest.mark.parametrize(
    ("moment", "runs"), [("at once", []), ("asked", ["cancelled"]), ("streaming", ["cancelled"])]
)
async def test_a_run_that_is_aborted_ends_whether_or_not_its_id_is_known(
    pool: Pool, provider: Provider, node: Node, moment: str, runs: list[str]
) -> None:
    await provider.script([{"text": "It never ends by itself.", "gate": "never", "gate_after": 2}])
    async with proxied(pool, provider) as (proxy, served):
        agent = await new_agent(served)
        said = json.loads(await node.run("agui_abort.mjs", proxy.url, agent, moment))
        listed = await served.json("GET", f"/v1/runs/?agent_id={agent}")
    assert said == ["RUN_STARTED", "RUN_FINISHED", "cancelled"]
    assert [run["status"] for run in listed] == runs


async def test_what_the_user_says_beside_a_result_is_heard_as_well(
    pool: Pool, provider: Provider, node: Node
) -> None:
    call = {"name": "weather", "arguments": {"city": "Riga"}}
    await provider.script([{"tool_calls": [call]}, {"text": "Sunny."}, {"text": "Sunny, too."}])
    async with proxied(pool, provider) as (proxy, served):
        agent = await new_agent(served)
        said = plain(json.loads(await node.run("agui_answers.mjs", proxy.url, agent, "more")))
        heard: list[str] = []
        with anyio.fail_after(20):
            while "And tomorrow?" not in heard:
                stored = await served.json("GET", f"/v1/agents/{agent}/messages?limit=100&order=asc")
                heard = [one["content"] for one in stored if one["message_type"] == "user_message"]
                await anyio.sleep(0.05)
    assert said[2][0] == "tool"
    assert heard.count("And tomorrow?") == 1
