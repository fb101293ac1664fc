"""The official SDK, unchanged, sends messages and reads them back over a real connection."""

from typing import Any

import anyio
import anyio.to_thread
import httpx
import letta_client
import pytest
from letta_client import Letta
from letta_client.types import ToolReturnMessage
from letta_client.types.agents import AssistantMessage, ToolCallMessage, UserMessage

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, connected, user

TURN = ["reasoning_message", "tool_call_message", "tool_return_message", "assistant_message"]


async def test_a_blocking_answer_has_its_types(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with connected(pool, provider) as c:
        answer = await c.say("I like tea")
    assert [m.message_type for m in answer.messages] == TURN
    call, returned, said = answer.messages[1:]
    assert isinstance(call, ToolCallMessage)
    assert call.tool_call.name == "memory_insert"
    assert isinstance(returned, ToolReturnMessage)
    assert (returned.status, returned.tool_return) == ("success", "Likes tea")
    assert returned.tool_call_id == call.tool_call.tool_call_id
    assert isinstance(said, AssistantMessage)
    assert said.content == "Noted."
    assert said.otid is not None
    assert said.otid[-1] == "0"
    assert answer.stop_reason.stop_reason == "end_turn"
    assert answer.usage.step_count == 2
    assert answer.usage.run_ids == [said.run_id]


async def test_the_synchronous_client_streams_steps_and_tokens(pool: Pool, provider: Provider) -> None:
    """The one client most people use; it runs in its own thread here, beside the server's loop."""

    def talk(url: str, agent_id: str) -> tuple[list[Any], list[Any]]:
        with Letta(base_url=url) as client:
            messages = client.agents.messages
            steps = list(messages.create(agent_id, input="one", streaming=True))
            tokens = list(messages.create(agent_id, input="two", streaming=True, stream_tokens=True))
        return steps, tokens

    await provider.script([{"text": "a b c", "gap_ms": 5}] * 2)
    async with connected(pool, provider) as c:
        steps, tokens = await anyio.to_thread.run_sync(talk, c.url, c.agent_id)
    assert [c.message_type for c in steps] == ["ping", "assistant_message", "stop_reason", "usage_statistics"]
    assert [c.content for c in tokens if c.message_type == "assistant_message"] == ["a ", "b ", "c"]


async def test_tokens_arrive_while_the_model_still_speaks(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three", "gate": "go", "gate_after": 2}])
    async with connected(pool, provider) as c:
        seen = ""
        with anyio.fail_after(10):
            stream = await c.say("count", streaming=True, stream_tokens=True)
            async for chunk in stream:
                if chunk.message_type == "assistant_message":
                    if not seen:
                        await provider.open("go")
                    seen += chunk.content
    assert seen == "one two three"


async def test_tool_call_deltas_are_one_object_and_add_up(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with connected(pool, provider) as c:
        chunks = await c.chunks("I like tea", stream_tokens=True)
        calls = [chunk for chunk in chunks if chunk.message_type == "tool_call_message"]
        [stored] = [
            m
            async for m in c.client.agents.messages.list(c.agent_id, order="asc")
            if m.message_type == "tool_call_message"
        ]
    assert calls[0].tool_call.name == "memory_insert"
    assert "".join(chunk.tool_call.arguments or "" for chunk in calls) == stored.tool_call.arguments
    assert {(chunk.id, chunk.otid) for chunk in calls} == {(stored.id, stored.otid)}


async def test_the_error_event_of_a_stream_is_raised(pool: Pool, provider: Provider) -> None:
    await provider.script([{"status": 401}])
    async with connected(pool, provider) as c:
        with pytest.raises(letta_client.APIStatusError) as raised:
            await c.chunks("hi")
    assert raised.value.status_code == 200
    assert raised.value.body["error_type"] == "llm_authentication"  # type: ignore[index]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": 401}, letta_client.AuthenticationError),
        ({"status": 400}, letta_client.BadRequestError),
        ({"status": 429, "repeat": "forever", "headers": {"retry-after": "0"}}, letta_client.RateLimitError),
        ({"fault": "garbage", "repeat": "forever"}, letta_client.InternalServerError),
    ],
)
async def test_a_models_failure_is_the_sdks_exception_and_runs_once(
    pool: Pool, provider: Provider, reply: dict[str, Any], error: type[Exception]
) -> None:
    await provider.script([reply])
    async with connected(pool, provider) as c:
        with pytest.raises(error):
            await c.say("hi")
        assert len([run async for run in c.client.runs.list()]) == 1


async def test_an_sdk_that_lost_its_answer_gets_it_on_its_own_retry(pool: Pool, provider: Provider) -> None:
    """The first try times out while the model thinks; the SDK's second try waits for the same run."""
    await provider.script([{"text": "slow", "gate": "go"}])
    retried = anyio.Event()

    async def notice(request: httpx.Request) -> None:
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            retried.set()

    async with connected(pool, provider) as c:
        http = httpx.AsyncClient(event_hooks={"request": [notice]})
        hurried = c.client.with_options(timeout=httpx.Timeout(1.0), max_retries=10, http_client=http)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await hurried.agents.messages.create(c.agent_id, input="hi"))

        with anyio.fail_after(18):
            async with http, anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await retried.wait()
                await provider.open("go")
        assert [m.content for m in answers[0].messages] == ["slow"]
        assert len([run async for run in c.client.runs.list()]) == 1
        history = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
    assert [m.message_type for m in history] == ["system_message", "user_message", "assistant_message"]


async def test_a_busy_conversation_is_a_conflict_at_once(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "slow", "gate": "go"}])
    async with connected(pool, provider) as c:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(c.say, "first")
                await provider.log(requests=1, keep=True)
                with pytest.raises(letta_client.ConflictError) as busy:
                    await c.client.conversations.messages.create(c.agent_id, input="second")
                [run] = [run async for run in c.client.runs.list(active=True)]
                assert busy.value.body["run_id"] == run.id  # type: ignore[index]
                await provider.open("go")


async def test_what_is_invalid_raises_what_the_sdk_has_for_it(pool: Pool, provider: Provider) -> None:
    missing = "agent-00000000-0000-4000-8000-000000000000"
    async with connected(pool, provider) as c:
        messages = c.client.agents.messages
        with pytest.raises(letta_client.UnprocessableEntityError):
            await messages.create(c.agent_id, messages=[])
        with pytest.raises(letta_client.UnprocessableEntityError):
            await messages.create(c.agent_id, input="hi", messages=[user("hi")])
        with pytest.raises(letta_client.NotFoundError):
            await messages.create(missing, input="hi")
        with pytest.raises(letta_client.ConflictError):
            await messages.cancel(c.agent_id)
        approval: Any = {"type": "approval", "approve": True, "approval_request_id": "message-1"}
        with pytest.raises(letta_client.BadRequestError):
            await messages.create(c.agent_id, messages=[approval])


async def test_a_history_is_paged_by_the_sdk_without_gap_or_repeat(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        for turn in range(4):
            await c.say(f"question {turn}")
        everything = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc", limit=2)]
        newest = await c.client.agents.messages.list(c.agent_id, limit=2)
        retrieved = await c.client.messages.retrieve(everything[1].id)
    questions = [m.content for m in everything if isinstance(m, UserMessage)]
    assert questions == [f"question {turn}" for turn in range(4)]
    assert len(everything) == 9
    assert [m.id for m in newest.items] == [m.id for m in everything[-2:]]
    assert [m.id for m in retrieved] == [everything[1].id]


async def test_a_conversation_is_talked_to_and_paged_newest_first(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        conversations = c.client.conversations
        talk = await conversations.create(agent_id=c.agent_id, summary="about nothing")
        for turn in range(3):
            stream = await conversations.messages.create(talk.id, messages=[user(f"question {turn}")])
            kinds = [chunk.message_type async for chunk in stream]
            assert kinds == ["ping", "assistant_message", "stop_reason", "usage_statistics"]
        listed = [m async for m in conversations.messages.list(talk.id, limit=2)]
        assert len(listed) == len({m.id for m in listed}) == 7
        assert [m.content for m in listed if isinstance(m, UserMessage)] == [
            "question 2",
            "question 1",
            "question 0",
        ]
        assert [found.id for found in await conversations.list(agent_id=c.agent_id)] == [talk.id]
        assert (await conversations.retrieve(talk.id)).summary == "about nothing"
        with pytest.raises(letta_client.ConflictError):
            await conversations.cancel(talk.id)
        await conversations.delete(talk.id)
        with pytest.raises(letta_client.NotFoundError):
            await conversations.retrieve(talk.id)


async def test_a_conversation_is_renamed_given_a_model_and_archived(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        conversations = c.client.conversations
        stays = {"description": "stays"}  # 1.12.0 does not know it
        talk = await conversations.create(agent_id=c.agent_id, summary="old", extra_body=stays)
        changed = await conversations.update(
            talk.id,
            summary="new",
            model="openai/other",
            model_settings={"provider_type": "openai", "temperature": 0.25},
        )
        assert (changed.summary, changed.description, changed.model) == ("new", "stays", "openai/other")
        stream = await conversations.messages.create(talk.id, messages=[user("hi")])
        assert [chunk.message_type async for chunk in stream][-2:] == ["stop_reason", "usage_statistics"]
        [record] = await provider.log()
        assert (record.model, record.body["temperature"]) == ("other", 0.25)
        cleared = await conversations.update(talk.id, model=None, model_settings=None, archived=True)
        assert (cleared.summary, cleared.model, cleared.api_model_settings) == ("new", None, None)
        assert cleared.archived
        assert await conversations.list(agent_id=c.agent_id) == []
        assert [found.id for found in await conversations.list(archive_status="archived")] == [talk.id]
        again = await conversations.update(talk.id, archived=False)
        assert not again.archived
        with pytest.raises(letta_client.NotFoundError):
            await conversations.update(talk.id, model="nobody/x")
        with pytest.raises(letta_client.UnprocessableEntityError):
            await conversations.update(talk.id, model_settings={"provider_type": "openai", "temperature": 7})
        assert (await conversations.retrieve(talk.id)).api_model_settings is None


async def test_messages_are_searched_in_one_conversation_of_an_agent_or_everywhere(
    pool: Pool, provider: Provider
) -> None:
    async with connected(pool, provider) as c:
        talk = await c.client.conversations.create(agent_id=c.agent_id)
        await c.say("tea by default")
        async for _ in await c.client.conversations.messages.create(talk.id, messages=[user("tea aside")]):
            pass
        search = c.client.messages.search
        assert {hit.content for hit in await search(query="tea")} == {"tea by default", "tea aside"}
        assert [hit.content for hit in await search(query="tea", conversation_id=talk.id)] == ["tea aside"]
        only = await search(query="tea", agent_id=c.agent_id, conversation_id="default")
        assert [(hit.content, hit.agent_id) for hit in only] == [("tea by default", c.agent_id)]


async def test_a_message_cannot_be_changed_and_the_answer_says_why(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        sent = (await c.say("hi")).messages[0]
        with pytest.raises(letta_client.APIStatusError) as refused:
            await c.client.patch(f"/v1/agents/{c.agent_id}/messages/{sent.id}", body={}, cast_to=object)
        assert refused.value.status_code == 405
        assert refused.value.body["detail"] == "messages are never changed: what was said stays said"  # type: ignore[index]
