"""OpenAI's own client, unchanged, talks with an agent where it expects a model."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, connected

NOBODY = "agent-00000000-0000-4000-8000-000000000000"
HELLO: Any = [
    {"role": "system", "content": "Not read: the agent has its own."},
    {"role": "user", "content": "Not read: it was said before."},
    {"role": "assistant", "content": "Nor this."},
    {"role": "user", "content": "I like tea"},
]


def openai_client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def test_an_agent_answers_like_a_model_and_keeps_its_own_history(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{**CALL, "text": "A moment."}, {"text": "Noted."}, {"text": "You are welcome."}])
    async with connected(pool, provider) as c, openai_client(c.url) as client:
        answer = await client.chat.completions.create(model=c.agent_id, messages=HELLO)
        assert (answer.object, answer.model) == ("chat.completion", c.agent_id)
        [choice] = answer.choices
        assert (choice.message.role, choice.message.content) == ("assistant", "A moment.\n\nNoted.")
        assert choice.finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
        await client.chat.completions.create(
            model=c.agent_id,
            messages=[{"role": "user", "content": [{"type": "text", "text": "Thanks"}]}],
        )
        said = [m async for m in c.client.agents.messages.list(c.agent_id)]
    assert [m.content for m in said if m.message_type == "user_message"] == ["I like tea", "Thanks"]


async def test_a_stream_says_the_same_and_tells_what_was_used(pool: Pool, provider: Provider) -> None:
    await provider.script([{**CALL, "text": "A moment."}, {"text": "Noted, as you asked."}])
    async with connected(pool, provider) as c, openai_client(c.url) as client:
        stream = await client.chat.completions.create(
            model=c.agent_id, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "A moment.\n\nNoted, as you asked."
    assert sum(1 for delta in deltas if delta.content) > 3
    *_, last, used = chunks
    assert last.choices[0].finish_reason == "stop"
    assert used.usage is not None
    assert used.usage.total_tokens > 0


async def test_an_agent_that_speaks_by_a_tool_is_heard(pool: Pool, provider: Provider) -> None:
    say = {
        "tool_calls": [{"name": "send_message", "arguments": {"thinking": "Now.", "message": "Hello you"}}]
    }
    await provider.script([say, say])
    async with connected(pool, provider, agent_type="memgpt_v2_agent") as c, openai_client(c.url) as client:
        whole = await client.chat.completions.create(model=c.agent_id, messages=HELLO)
        assert whole.choices[0].message.content == "Hello you"
        stream = await client.chat.completions.create(model=c.agent_id, messages=HELLO, stream=True)
        said = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(said) == "Hello you"


async def test_failures_are_the_clients_own_errors(pool: Pool, provider: Provider) -> None:
    refusal: Any = {"status": 400, "body": {"error": {"message": "no", "type": "invalid_request_error"}}}
    await provider.script([refusal, refusal])
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with connected(pool, provider) as c, openai_client(c.url) as client:
        create: Any = client.chat.completions.create
        with pytest.raises(openai.BadRequestError):
            await create(model=c.agent_id, messages=HELLO)
        with pytest.raises(openai.APIError, match="refused the request"):
            async for _ in await create(model=c.agent_id, messages=HELLO, stream=True):
                pass
        with pytest.raises(openai.NotFoundError, match="Agent not found"):
            await create(model=NOBODY, messages=HELLO)
        for bad in (HELLO[:1], [{"role": "user", "content": [{"type": "audio"}]}], [{"role": "user"}]):
            with pytest.raises(openai.UnprocessableEntityError):
                await create(model=c.agent_id, messages=bad)
        with pytest.raises(openai.InternalServerError) as refused:
            await create(model=c.agent_id, messages=HELLO, tools=[tool])
        assert refused.value.status_code == 501
