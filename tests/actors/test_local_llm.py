"""A real model on this machine: a fact told, remembered by a tool call, and known after a restart."""

from collections.abc import Iterator

import anyio
import pytest

from actors.events import Event, TextDelta, ToolCallEnded
from actors.llm.catalog import Catalog
from actors.llm.providers import provider_for
from actors.llm.wire import Timeouts, Wire
from bench.provider import Provider
from storage.pool import Pool
from tests import local_model
from tests.actors.worlds import World, finish, world

ANSWER_SECONDS = 400.0
WINDOW_TOKENS = 6_144
pytestmark = [*local_model.NEEDS_MODEL, pytest.mark.timeout(1_200)]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with local_model.served(WINDOW_TOKENS) as url:
        yield url


async def ask(run: World, agent: str, text: str) -> list[Event]:
    receipt = await run.tell(agent, text)
    with anyio.fail_after(ANSWER_SECONDS):
        ref = run.host.ref(agent)
        return [e.event async for part in ref.follow(receipt.run_id, receipt.conversation_id) for e in part]


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_fact_is_told_remembered_and_known_after_a_restart(pool: Pool, base_url: str) -> None:
    patient = Timeouts(idle=ANSWER_SECONDS, first_token=ANSWER_SECONDS)

    def catalog() -> Catalog:
        # The handle's name decides that it is spoken to in JSON: see `known`.
        return Catalog([provider_for("llamacpp", base_url)], wire=Wire(timeouts=patient))

    nobody = Provider()  # the scripted one, which this test does not start
    async with world(pool, nobody, catalog=catalog()) as run:
        agent = await run.agent(
            model="llamacpp/qwen2.5-coder",
            system="You save what the person tells you in your memory block with the label human.",
            model_settings={"temperature": 0.0, "max_output_tokens": 160},
            tool_rules=({"type": "run_first", "tool_name": "memory_insert", "args": {"label": "human"}},),
        )
        events = await ask(run, agent, "Please remember: my favourite fruit is the mango.")
        for message in await run.messages(agent):
            print(message.role, message.content if message.position else "")
        assert finish(events).status == "completed", finish(events).error
        assert any(isinstance(event, ToolCallEnded) for event in events)
        assert "mango" in (await run.value(agent)).lower()
    async with world(pool, nobody, catalog=catalog(), name="after-restart") as run:
        events = await ask(run, agent, "What is my favourite fruit?")
        print("asked:", said(events))
        assert "mango" in said(events).lower()
