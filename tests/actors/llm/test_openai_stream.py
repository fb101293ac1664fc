"""The decoder of streamed answers, over every shape and cut."""

import json
import time
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ModelError
from actors.llm import decoding, sse
from actors.llm.model import TextPiece
from actors.llm.openai_stream import ChatDecoder
from storage.records import Usage
from tests.actors.llm.streams import CASES, DONE, Decoded, cuts, decode, event

BY_ID = {case["id"]: case for case in CASES}


def body_of(case: dict[str, Any]) -> bytes:
    return case["body"].encode()


def check(case: dict[str, Any], decoded: Decoded) -> None:
    expected = case["expect"]
    assert decoded.text == expected.get("text", "")
    assert decoded.reasoning == expected.get("reasoning", "")
    assert decoded.finish == expected.get("finish")
    calls = expected.get("calls", [])
    assert [call[1:] for call in decoded.calls] == [call[1:] for call in calls]
    ids = [call[0] for call in decoded.calls]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    assert all(want[0] in ("*", got) for want, got in zip(calls, ids, strict=True))
    if expected.get("usage"):
        assert decoded.usage == Usage(**expected["usage"])
    else:
        assert decoded.usage is None
    if wanted := expected.get("error"):
        assert decoded.error is not None
        assert {name: getattr(decoded.error, name) for name in wanted} == wanted
    else:
        assert decoded.error is None


@pytest.mark.parametrize("case", CASES, ids=BY_ID)
def test_a_case_decodes_as_expected(case: dict[str, Any]) -> None:
    check(case, decode([body_of(case)]))


@pytest.mark.parametrize("case", CASES, ids=BY_ID)
def test_a_case_decodes_the_same_byte_by_byte(case: dict[str, Any]) -> None:
    body = body_of(case)
    check(case, decode(body[i : i + 1] for i in range(len(body))))


@given(st.sampled_from(CASES), st.lists(st.integers(1, 2000), max_size=12))
def test_a_case_decodes_the_same_at_random_cuts(case: dict[str, Any], at: list[int]) -> None:
    check(case, decode(cuts(body_of(case), at)))


texts = st.text(max_size=6) | st.sampled_from(["\n\n", "data: x", "é€😀", "\u2028", '"\\', "[DONE]"])
deltas = st.one_of(
    texts.map(lambda text: {"content": text}),
    texts.map(lambda text: {"reasoning_content": text}),
    st.tuples(texts, texts).map(lambda both: {"content": both[0], "reasoning": both[1]}),
)


@given(st.lists(deltas, min_size=1), st.booleans(), st.lists(st.integers(1, 3000), max_size=8))
def test_what_was_streamed_is_what_is_decoded(said: list[dict[str, str]], crlf: bool, at: list[int]) -> None:
    body = b"".join(event(delta) for delta in said) + event({}, "stop") + DONE
    if crlf:
        body = body.replace(b"\n", b"\r\n")
    decoded = decode(cuts(body, at))
    assert decoded.text == "".join(d.get("content", "") for d in said).replace("\0", "\ufffd")
    thought = "".join(d.get("reasoning_content", "") + d.get("reasoning", "") for d in said)
    assert decoded.reasoning == thought.replace("\0", "\ufffd")
    assert decoded.finish == "stop"


@given(st.binary(max_size=300), st.lists(st.integers(1, 300), max_size=5))
def test_garbage_ends_in_a_model_error_and_nothing_else(body: bytes, at: list[int]) -> None:
    for prefix in (b"", b"data: ", b'data: {"choices":[', b"{"):
        decoded = decode(cuts(prefix + body, at))
        assert decoded.finish or decoded.error


FIELDS = """
choices delta message content tool_calls function name arguments index id usage error prompt_tokens
finish_reason reasoning reasoning_details thinking text
"""
odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=4)
        | inner.map(lambda value: {"choices": [{"delta": value}]})
    ),
    max_leaves=20,
)


@given(odd_json)
def test_json_of_any_shape_ends_in_an_answer_or_a_model_error(value: object) -> None:
    data = b"data: %b\n\n" % json.dumps(value).encode()
    decode([data + event({"content": "x"}, "stop") + DONE])
    decode([json.dumps(value).encode()])


async def reference(body: bytes) -> Decoded:
    """Decode with the official client."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = httpx2.MockTransport(answer)
    async with openai.AsyncOpenAI(
        api_key="x", base_url="http://x/v1", http_client=httpx2.AsyncClient(transport=transport)
    ) as client:
        decoded = Decoded()
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        async for chunk in stream:
            for choice in chunk.choices:
                decoded.text += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    if call.index == len(decoded.calls):
                        decoded.calls.append(["", "", ""])
                    for place, more in enumerate((call.id, call.function and call.function.name)):
                        decoded.calls[call.index][place] += more or ""
                    decoded.calls[call.index][2] += (call.function and call.function.arguments) or ""
                decoded.finish = choice.finish_reason or decoded.finish
    return decoded


COMMON = (
    "TOOL-fragments",
    "TOOL-parallel",
    "LLM-usage",
    "LLM-finish-length",
    "LLM-role-user",
    "LLM-after-done",
    "SSE-comments",
    "SSE-multi-line",
    "SSE-no-space",
    "ARGS-args-nan",
)


@pytest.mark.parametrize("name", COMMON)
async def test_the_official_client_decodes_the_same(name: str) -> None:
    body = body_of(BY_ID[name])
    theirs, ours = await reference(body), decode([body])
    assert (ours.text, ours.calls, ours.finish) == (theirs.text, theirs.calls, theirs.finish)


def test_pieces_before_a_failure_are_handed_out_first() -> None:
    decoder = ChatDecoder()
    pieces = decoder.feed(event({"content": "Hello"}) + b'data: {"error":{"message":"boom"}}\n\n')
    assert pieces == [TextPiece("Hello")]
    assert decoder.failure is not None
    with pytest.raises(ModelError) as raised:
        decoder.feed(event({"content": "more"}))
    assert raised.value is decoder.failure


def test_an_error_inside_a_stream_shows_no_key() -> None:
    message = "Incorrect API key provided: sk-proj-abcdefghijklmnop; and my-own-secret was wrong"
    body = b'data: {"error":{"message":"%b"}}\n\n' % message.encode()
    error = decode([body], secrets=("my-own-secret",)).error
    assert error is not None
    assert error.kind == "llm_authentication"
    assert "abcdefgh" not in str(error)
    assert "my-own-secret" not in str(error)


def test_nothing_is_decoded_after_the_end_mark() -> None:
    decoder = ChatDecoder()
    decoder.feed(event({"content": "a"}, "stop") + DONE)
    assert decoder.done
    assert decoder.feed(event({"content": "b"})) == []
    assert decoder.close() == []


def test_an_event_of_two_megabytes_passes_in_many_reads() -> None:
    text = "é" * 1_000_000
    body = event({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": text}}]})
    body += event({}, "tool_calls") + DONE
    decoded = decode(body[i : i + 65_536] for i in range(0, len(body), 65_536))
    assert decoded.calls == [["c", "f", text]]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES", 10_000)
    for start in (b"data: ", b"data: x\n", b"{"):
        line = b"x" * 999 + (b"\ndata: " if start.endswith(b"\n") else b"")
        error = decode([start, *[line] * 20]).error
        assert error is not None
        assert not error.retryable
        assert error.stop_reason == "invalid_llm_response"


def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "ANSWER_CHARS", 100)
    decoded = decode([event({"content": "x" * 60}), event({"content": "x" * 60})])
    assert decoded.text == "x" * 60
    assert decoded.error is not None
    assert not decoded.error.retryable


def test_endless_tool_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CALLS", 3)
    many = [{"index": i, "id": f"c{i}", "function": {"name": "f", "arguments": "{}"}} for i in range(4)]
    error = decode([event({"tool_calls": many})]).error
    assert error is not None
    assert not error.retryable


def test_a_call_id_that_we_make_suits_every_provider() -> None:
    body = event({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]})
    made = decode([body + event({}, "tool_calls") + DONE]).calls[0][0]
    assert len(made) == 9
    assert made.isascii()
    assert made.isalnum()


def test_a_hundred_thousand_deltas_are_decoded_at_a_measured_price(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = event({"content": "x"})
    for per_read in (1, 10):
        decoder, count, reads = ChatDecoder(), 0, 100_000 // per_read
        begun = time.process_time()
        for _ in range(reads):
            count += len(decoder.feed(one * per_read))
        spent = time.process_time() - begun
        assert count == 100_000
        with capsys.disabled():
            print(f"\n  decoder: {spent / count * 1e6:.2f} us/token, {per_read} a read", end="")
