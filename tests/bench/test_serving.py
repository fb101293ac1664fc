"""What a client meets when the scripted provider misbehaves on command."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from bench.provider import Provider

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0) as made:
        yield made


async def stream(client: openai.AsyncOpenAI, **more: Any) -> list[ChatCompletionChunk]:
    made = await client.chat.completions.create(
        **{"model": "gpt-4o-mini", "messages": HELLO, **more}, stream=True
    )
    async with made:
        return [chunk async for chunk in made]


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


async def raw(provider: Provider, *, stream: bool = True) -> bytes:
    """Everything the provider sends on one connection until it closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":%b}' % str(stream).lower().encode()
    )
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_a_stream_has_text_finish_and_usage(provider: Provider, client: openai.AsyncOpenAI) -> None:
    await provider.script([{"text": "one two three"}])
    chunks = await stream(client, stream_options={"include_usage": True})
    assert said(chunks) == "one two three"
    assert chunks[-2].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.completion_tokens, usage.total_tokens - usage.prompt_tokens) == (3, 3)


async def test_usage_comes_only_when_asked(client: openai.AsyncOpenAI) -> None:
    assert all(chunk.usage is None for chunk in await stream(client))


@pytest.mark.parametrize(("usage", "seen"), [(None, None), ("negative", -6), ({"total_tokens": 7}, 7)])
async def test_usage_can_be_absent_or_absurd(
    provider: Provider, client: openai.AsyncOpenAI, usage: Any, seen: int | None
) -> None:
    await provider.script([{"text": "x", "usage": usage}])
    last = (await stream(client, stream_options={"include_usage": True}))[-1]
    assert (last.usage and last.usage.total_tokens) == seen


async def test_an_echo_names_what_it_saw(client: openai.AsyncOpenAI) -> None:
    made = await client.chat.completions.create(model="echo", messages=[*HELLO, *HELLO])
    assert made.choices[0].message.content == "[2 messages] hello"


async def test_a_clock_says_when_each_token_was_written(client: openai.AsyncOpenAI) -> None:
    before = time.monotonic_ns()
    stamps = [int(word) for word in said(await stream(client, model="clock-t3-g5")).split()]
    assert len(stamps) == 3
    assert before < stamps[0] < stamps[1] < stamps[2] < time.monotonic_ns()


async def test_tool_calls_come_in_fragments_and_in_parallel(
    provider: Provider, client: openai.AsyncOpenAI
) -> None:
    calls = [{"name": "f", "arguments": '{"text": "twelve or more"}', "id": "c1"}, {"name": "g"}]
    await provider.script([{"tool_calls": calls, "repeat": 2}])
    deltas = [d for c in await stream(client) if c.choices for d in c.choices[0].delta.tool_calls or ()]
    assert [(d.index, d.id) for d in deltas if d.id] == [(0, "c1"), (1, "call_1_1")]
    whole = "".join((d.function and d.function.arguments) or "" for d in deltas if d.index == 0)
    assert whole == calls[0]["arguments"]
    message = (await client.chat.completions.create(model="m", messages=HELLO)).choices[0]
    assert message.finish_reason == "tool_calls"
    assert [call.id for call in message.message.tool_calls or ()] == ["c1", "call_2_1"]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "reasoning_details", "thinking"])
async def test_thoughts_have_every_spelling(provider: Provider, client: openai.AsyncOpenAI, key: str) -> None:
    await provider.script([{"reasoning": "deep", "text": "x", "reasoning_key": key}])
    deltas = [c.choices[0].delta for c in await stream(client) if c.choices]
    name = "content" if key == "thinking" else key
    assert any("deep" in str(getattr(delta, name, None)) for delta in deltas)


@pytest.mark.parametrize(
    ("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)]
)
async def test_a_status_carries_headers_and_body(
    provider: Provider, client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    body = {"error": {"message": "slow down", "code": "busy"}}
    await provider.script([{"status": status, "headers": {"retry-after": "3"}, "body": body}])
    with pytest.raises(error) as caught:
        await stream(client)
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.code == "busy"


async def test_a_wrong_key_is_refused(provider: Provider, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await stream(client.with_options(api_key="sk-wrong"))
    assert (await provider.log())[0].status == 401


async def test_a_call_without_its_result_is_refused_and_recorded(
    provider: Provider, client: openai.AsyncOpenAI
) -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    with pytest.raises(openai.BadRequestError, match="did not have response messages"):
        await stream(client, messages=[*HELLO, {"role": "assistant", "tool_calls": calls}, *HELLO])
    assert (await provider.log())[0].refusal


@pytest.mark.parametrize("fault", ["cut_after", "rst_after"])
async def test_a_cut_stream_breaks_after_its_pieces(
    provider: Provider, client: openai.AsyncOpenAI, fault: str
) -> None:
    await provider.script([{"text": "a b c d", "fault": fault, "tokens": 2, "gap_ms": 5}])
    made = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    chunks = aiter(made)
    assert said([await anext(chunks), await anext(chunks), await anext(chunks)]) == "a b "
    with pytest.raises(openai.APIConnectionError):
        await anext(chunks)
    (record,) = await provider.log(ended=1)
    assert (record.tokens, record.aborted) == (2, False)


async def test_a_reset_is_a_reset_and_a_cut_is_an_end(provider: Provider) -> None:
    await provider.script([{"fault": "cut_after", "tokens": 1}, {"fault": "rst_after", "tokens": 1}])
    assert b"data: " in await raw(provider)
    with pytest.raises(ConnectionResetError):
        await raw(provider)


async def test_a_whole_answer_is_cut_in_its_middle(provider: Provider) -> None:
    await provider.script([{"fault": "cut_after", "tokens": 1}])
    head, _, body = (await raw(provider, stream=False)).partition(b"\r\n\r\n")
    assert int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) > len(body)


@pytest.mark.parametrize("reply", [{"fault": "hang"}, {"fault": "hang_after", "tokens": 1, "text": "a b"}])
async def test_a_provider_that_hangs_sees_its_client_leave(
    provider: Provider, client: openai.AsyncOpenAI, reply: dict[str, Any]
) -> None:
    await provider.script([reply])
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(stream(client))
        while (await provider.log(requests=1, keep=True))[0].tokens < reply.get("tokens", 0):
            pass
        assert not task.done()
        task.cancel()
    (record,) = await provider.log(ended=1)
    assert record.aborted
    assert record.tokens == reply.get("tokens", 0)


async def test_half_a_header_and_no_body_are_no_answer(
    provider: Provider, client: openai.AsyncOpenAI
) -> None:
    await provider.script([{"fault": "half_headers"}, {"fault": "empty_200"}])
    assert await raw(provider) == b"HTTP/1.1 200 OK\r\nContent-Ty"
    assert await stream(client) == []


async def test_bytes_go_out_verbatim(provider: Provider) -> None:
    await provider.script(
        [{"raw": "HTTP/1.1 200 OK\r\n\r\nhi"}, {"raw_base64": b64encode(b"\xff\x00").decode()}]
    )
    assert await raw(provider) == b"HTTP/1.1 200 OK\r\n\r\nhi"
    assert await raw(provider) == b"\xff\x00"


async def test_an_event_stream_can_be_verbatim(provider: Provider, client: openai.AsyncOpenAI) -> None:
    event = '{"choices":[{"index":0,"delta":{"content":"verbatim"}}]}'
    await provider.script([{"sse": f": comment\n\ndata:{event}\r\n\r\ndata: [DONE]\n\n"}])
    assert said(await stream(client)) == "verbatim"


async def test_garbage_is_no_event(provider: Provider, client: openai.AsyncOpenAI) -> None:
    await provider.script([{"fault": "garbage", "repeat": 2}])
    with pytest.raises((UnicodeDecodeError, ValueError)):
        await stream(client)


async def test_half_an_object_comes_where_the_script_says(
    provider: Provider, client: openai.AsyncOpenAI
) -> None:
    await provider.script([{"text": "a b", "fault": "bad_json_event", "tokens": 1}])
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Invalid"):
        await stream(client)


async def test_an_error_can_come_as_an_event(provider: Provider, client: openai.AsyncOpenAI) -> None:
    await provider.script([{"text": "a b", "fault": "error_event", "tokens": 1}])
    with pytest.raises(openai.APIError, match="The server had an error"):
        await stream(client)


async def test_a_stream_can_lack_its_end(provider: Provider, client: openai.AsyncOpenAI) -> None:
    await provider.script([{"fault": "no_finish"}, {"fault": "no_done"}])
    assert {c.choices[0].finish_reason for c in await stream(client)} == {None}
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}'
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    whole = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert b'"finish_reason":"stop"' in whole
    assert b"[DONE]" not in whole


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_the_finish_reason_is_the_scripts(
    provider: Provider, client: openai.AsyncOpenAI, reason: str
) -> None:
    await provider.script([{"text": "x", "finish_reason": reason}])
    assert (await stream(client))[-1].choices[0].finish_reason == reason


async def test_cut_anywhere_with_other_line_ends_it_reads_the_same(
    provider: Provider, client: openai.AsyncOpenAI
) -> None:
    text = "naïve — 日本語 🙂 text"
    await provider.script([{"text": text, "chunk": [1, 7, 3], "crlf": True}])
    assert said(await stream(client)) == text


async def test_an_answer_waits_at_its_gate(provider: Provider, client: openai.AsyncOpenAI) -> None:
    await provider.script([{"text": "a b", "gate": "g", "gate_after": 1}])
    made = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    chunks = aiter(made)
    await anext(chunks)
    assert (await anext(chunks)).choices[0].delta.content == "a "
    (record,) = await provider.log(requests=1, keep=True)
    assert (record.tokens, record.ended_ns) == (1, None)
    await provider.open("g")
    assert said([chunk async for chunk in chunks]) == "b"


async def test_times_are_recorded_on_the_shared_clock(provider: Provider, client: openai.AsyncOpenAI) -> None:
    before = time.monotonic_ns()
    await stream(client, model="fixed-t5-d50-g10")
    (record,) = await provider.log(ended=1)
    after = time.monotonic_ns()
    assert record.first_ns is not None
    assert record.ended_ns is not None
    assert before < record.arrived_ns < record.first_ns < record.ended_ns < after
    assert record.first_ns - record.arrived_ns >= 49e6
    # The pace is kept from the arrival, so a late first piece shortens the rest.
    assert record.ended_ns - record.arrived_ns >= 89e6
    assert record.tokens == 5


async def test_a_request_is_recorded_with_body_and_key(
    provider: Provider, client: openai.AsyncOpenAI
) -> None:
    await stream(client)
    (record,) = await provider.log(ended=1)
    assert record.body["messages"] == HELLO
    assert record.headers["authorization"] == "Bearer sk-test"
    assert (record.user_text, record.messages, record.stream) == ("hello", 1, True)
    assert await provider.log() == []


async def test_a_body_that_is_no_json_is_refused(provider: Provider) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 3\r\n\r\n{]}")
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()
