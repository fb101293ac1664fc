"""The official SDK, unchanged, follows runs: in the background, after a cut, and afterwards."""

from typing import Any

import anyio
import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, connected, user

MISSING_STEP = "step-00000000-0000-4000-8000-000000000000"


def same(chunk: Any) -> dict[str, Any]:
    return chunk.model_dump(mode="json")


async def test_a_background_stream_is_cut_and_taken_up_by_number(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted, as you asked for it."}])
    async with connected(pool, provider) as c:
        whole = await c.chunks("I like tea", background=True, stream_tokens=True)
        ping, *chunks = whole
        assert ping.message_type == "ping"
        assert ping.run_id is not None
        cut = chunks[3]
        rest = [
            chunk
            async for chunk in await c.client.runs.messages.stream(
                ping.run_id, starting_after=cut.seq_id, include_pings=False
            )
        ]
        assert [same(chunk) for chunk in rest] == [same(chunk) for chunk in chunks[4:]]
        again = [chunk async for chunk in await c.client.runs.messages.stream(ping.run_id)]
        assert [same(chunk) for chunk in again[1:]] == [same(chunk) for chunk in chunks]


async def test_a_cut_connection_loses_nothing_and_the_run_goes_on(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three four", "gate": "go", "gate_after": 2}])
    async with connected(pool, provider) as c:
        seen: list[Any] = []
        with anyio.fail_after(10):
            stream = await c.say("count", streaming=True, background=True, stream_tokens=True)
            async for chunk in stream:
                seen.append(chunk)
                if chunk.message_type == "assistant_message":
                    break
            await stream.close()
            [run] = [run async for run in c.client.runs.list(active=True)]
            assert run.id == seen[0].run_id
            await provider.open("go")
            seen += [
                chunk
                async for chunk in await c.client.runs.messages.stream(
                    run.id, starting_after=seen[-1].seq_id, include_pings=False
                )
            ]
    said = [chunk for chunk in seen if chunk.message_type == "assistant_message"]
    assert "".join(chunk.content for chunk in said) == "one two three four"
    assert [chunk.seq_id for chunk in said] == sorted({chunk.seq_id for chunk in said})


async def test_a_conversations_stream_is_taken_up_by_otid(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three", "gate": "go", "gate_after": 1}])
    async with connected(pool, provider) as c:
        messages = c.client.conversations.messages
        with anyio.fail_after(10):
            stream = await messages.create(
                c.agent_id, messages=[user("hi", otid="mine")], background=True, stream_tokens=True
            )
            async for chunk in stream:
                if chunk.message_type == "ping":
                    break
            await stream.close()
            await provider.open("go")
            found = [chunk async for chunk in await messages.stream(c.agent_id, otid="mine")]
    assert "".join(m.content for m in found if m.message_type == "assistant_message") == "one two three"


async def test_an_asynchronous_run_is_polled_to_its_end(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with connected(pool, provider) as c:
        run = await c.client.agents.messages.create_async(c.agent_id, input="I like tea")
        assert run.status in ("created", "running")
        with anyio.fail_after(10):
            async for _ in await c.client.runs.messages.stream(run.id):
                pass
        done = await c.client.runs.retrieve(run.id)
        assert (done.status, done.stop_reason, done.agent_id) == ("completed", "end_turn", c.agent_id)
        assert done.completed_at is not None
        messages = [m.message_type async for m in c.client.runs.messages.list(run.id)]
        assert messages == [
            "user_message",
            "reasoning_message",
            "tool_call_message",
            "tool_return_message",
            "assistant_message",
        ]
        steps = [step async for step in c.client.runs.steps.list(run.id)]
        usage = await c.client.runs.usage.retrieve(run.id)
        assert usage.total_tokens == sum(step.total_tokens or 0 for step in steps) > 0
        [first] = [m async for m in c.client.steps.messages.list(steps[0].id)]
        assert first.message_type == "assistant_message"
        assert (await c.client.steps.retrieve(steps[1].id)).api_model_handle == "openai/scripted"
        listed = [step.id async for step in c.client.steps.list(agent_id=c.agent_id)]
        assert listed == [step.id for step in steps]


async def test_a_running_run_is_cancelled(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    async with connected(pool, provider) as c:
        with anyio.fail_after(10):
            stream = await c.say("hi", streaming=True, stream_tokens=True)
            chunks: list[Any] = []
            async for chunk in stream:
                chunks.append(chunk)
                if chunk.message_type == "assistant_message":
                    cancelled = await c.client.agents.messages.cancel(c.agent_id)
                    assert cancelled == {chunks[0].run_id: "cancelled"}
        assert chunks[-1].message_type == "stop_reason"
        assert chunks[-1].stop_reason == "cancelled"
        run = await c.client.runs.retrieve(chunks[0].run_id)
        assert run.status == "cancelled"


async def test_runs_are_paged_and_filtered(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        for text in ("a", "b", "c"):
            await c.say(text)
        everything = [run.id async for run in c.client.runs.list(limit=2)]
        assert len(everything) == len(set(everything)) == 3
        rising = [run.id async for run in c.client.runs.list(limit=1, order="asc", agent_id=c.agent_id)]
        assert rising == everything[::-1]
        assert [run.id async for run in c.client.runs.list(statuses=["failed"])] == []
        with pytest.raises(letta_client.BadRequestError):
            await c.client.runs.messages.stream(everything[0])
        with pytest.raises(letta_client.NotFoundError):
            await c.client.runs.retrieve("run-00000000-0000-4000-8000-000000000000")


async def test_a_step_says_where_its_time_went(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with connected(pool, provider) as c:
        answer = await c.say("hi")
        step = await c.client.steps.metrics.retrieve(answer.messages[0].step_id)
        assert (step.id, step.agent_id, step.run_id) == (
            answer.messages[0].step_id,
            c.agent_id,
            answer.usage.run_ids[0],
        )
        assert step.step_ns >= step.llm_request_ns + step.tool_execution_ns > 0
        assert step.tool_execution_ns > 0
        with pytest.raises(letta_client.NotFoundError):
            await c.client.steps.metrics.retrieve(MISSING_STEP)
