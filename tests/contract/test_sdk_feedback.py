"""The official SDK, unchanged, says what it thinks of steps, and lists what it thought of."""

import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import connected

MISSING_STEP = "step-00000000-0000-4000-8000-000000000000"


async def test_feedback_on_a_step_is_kept_changed_and_found(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        said = [(await c.say(text)).messages[0] for text in ("one", "two")]
        first, second = said[0].step_id, said[1].step_id
        judge = c.client.steps.feedback.create
        step = await judge(first, feedback="positive", tags=["clear", "short"])
        assert (step.id, step.feedback, step.tags) == (first, "positive", ["clear", "short"])
        assert (await c.client.steps.retrieve(first)).feedback == "positive"
        await judge(second, feedback="negative")

        async def found(**query: object) -> list[str]:
            return [s.id async for s in c.client.steps.list(**query)]  # type: ignore[arg-type]

        assert await found(feedback="positive") == [first]
        assert await found(has_feedback=True) == [second, first]
        assert await found(has_feedback=False) == []
        assert await found(tags=["short", "long"]) == [first]
        again = await judge(first, feedback=None)
        assert (again.feedback, again.tags) == (None, ["clear", "short"])
        assert await found(feedback="positive") == []
        run = await c.client.runs.retrieve(said[0].run_id)
        assert "step_feedback" not in (run.metadata or {})
        with pytest.raises(letta_client.NotFoundError):
            await judge(MISSING_STEP, feedback="positive")
        with pytest.raises(letta_client.UnprocessableEntityError):
            await judge(first, feedback="so-so")  # type: ignore[arg-type]


async def test_a_step_has_no_trace_and_an_unknown_step_is_not_found(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        said = (await c.say("hi")).messages[0]
        assert await c.client.steps.trace.retrieve(said.step_id) is None
        with pytest.raises(letta_client.NotFoundError):
            await c.client.steps.trace.retrieve(MISSING_STEP)


async def test_runs_of_an_agents_own_conversation_are_found_by_its_name(
    pool: Pool, provider: Provider
) -> None:
    async with connected(pool, provider) as c:
        said = (await c.say("hi")).messages[0]
        talk = await c.client.conversations.create(agent_id=c.agent_id)
        async for _ in await c.client.conversations.messages.create(talk.id, input="hi"):
            pass
        runs = [r.id async for r in c.client.runs.list(agent_id=c.agent_id, conversation_id="default")]
        assert runs == [said.run_id]
        [listed] = await c.client.conversations.list(agent_id=c.agent_id)
        assert (
            listed.in_context_message_ids
            == (await c.client.conversations.retrieve(talk.id)).in_context_message_ids
        )
        assert len(listed.in_context_message_ids or ()) == 3


async def test_nul_characters_are_dropped(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        made = await c.client.blocks.create(label="notes", value="a\0b\\u0000", metadata={"k\0": "v\0"})
        assert made.value == "ab\\u0000"
        assert made.metadata == {"k": "v"}
