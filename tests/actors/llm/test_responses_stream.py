"""Answers in the responses dialect as they are read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ModelError
from actors.llm.model import SignaturePiece
from actors.llm.responses_stream import ResponsesDecoder
from bench import responses as written
from bench.replies import Reply, ToolCall
from tests.actors.llm.streams import Decoded, cuts


class Read(Decoded):
    signatures: list[str] = []  # noqa: RUF012 - msgspec copies it


def decode(chunks: list[bytes]) -> Read:
    decoder, read = ResponsesDecoder("test"), Read()

    def take(pieces: list[Any]) -> None:
        read.signatures += [p.signature for p in pieces if isinstance(p, SignaturePiece)]
        read.take(p for p in pieces if not isinstance(p, SignaturePiece))

    try:
        for chunk in chunks:
            take(decoder.feed(chunk))
        take(decoder.close())
        if decoder.failure is not None:
            raise decoder.failure
    except ModelError as error:
        read.error = error
    return read


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def body_of(reply: Reply, *, stream: bool = True) -> bytes:
    asked = written.read_request(b'{"model":"m","input":"hi","stream":true}')
    if not stream:
        return written.completion(reply, asked, "hi", number=1, created=1)
    plan = written.plan(reply, asked, "hi", number=1, created=1)
    return b"".join(plan.pieces) + plan.closing


REPLIES = st.builds(
    Reply,
    text=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1),
    reasoning=st.none() | st.text("abc äö\n", min_size=1).filter(str.strip),
    tool_calls=st.lists(st.builds(ToolCall, st.just("f"), st.just({"a": "ü"})), max_size=2).map(tuple),
)


@given(REPLIES, st.lists(st.integers(0, 5_000)), st.booleans())
def test_an_answer_cut_anywhere_is_the_same_answer(reply: Reply, at: list[int], stream: bool) -> None:
    read = decode(cuts(body_of(reply, stream=stream), at))
    assert read.error is None
    assert (read.text, read.reasoning) == (reply.text, reply.reasoning or "")
    assert [(call[1], call[2]) for call in read.calls] == [("f", '{"a":"ü"}')] * len(reply.tool_calls)
    assert read.signatures == ['{"id":"rs_1","encrypted_content":"sealed-1"}'] * (reply.reasoning is not None)
    assert read.finish == ("tool_calls" if reply.tool_calls else "stop")
    assert read.usage is not None
    assert read.usage.prompt > 0


@pytest.mark.parametrize(("reason", "finish"), [("length", "length"), ("content_filter", "content_filter")])
def test_an_incomplete_answer_says_why(reason: str, finish: str) -> None:
    assert decode([body_of(Reply(text="half", finish_reason=reason))]).finish == finish


def test_what_came_without_deltas_is_not_lost() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "whole"}]}
    thought = {"type": "reasoning", "id": "rs", "summary": [{"text": "a"}, {"text": "b"}]}
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    read = decode(
        [
            event("response.output_item.done", output_index=0, item=thought),
            event("response.output_item.done", output_index=1, item=item),
            event("response.output_item.done", output_index=2, item=call),
            event("response.completed", response={"status": "completed"}),
        ]
    )
    assert (read.text, read.reasoning, read.calls, read.finish) == (
        "whole",
        "a\n\nb",
        [["c1", "f", "{}"]],
        "tool_calls",
    )


def test_unknown_events_and_odd_fields_add_nothing() -> None:
    read = decode(
        [
            event("response.web_search_call.searching", output_index="x", item=7),
            event("response.output_text.delta", output_index=0, delta="hi"),
            event("response.output_text.annotation.added", annotation={"a": 1}, delta={"b": 2}),
            b": comment\n\n",
            event("response.completed", response={"usage": {"input_tokens": -4}}),
            event("response.output_text.delta", output_index=0, delta="after the end"),
        ]
    )
    assert (read.text, read.finish, read.usage, read.error) == ("hi", "stop", None, None)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [event("error", code="rate_limit_exceeded", message="slow")],
            {"kind": "llm_rate_limit", "retryable": True},
        ),
        (
            [event("response.failed", response={"error": {"code": "server_error", "message": "boom"}})],
            {"kind": "llm_error", "retryable": True},
        ),
        (
            [
                event(
                    "response.failed", response={"error": {"code": "context_length_exceeded", "message": ""}}
                )
            ],
            {"overflow": True, "retryable": False},
        ),
        (
            [event("response.output_text.delta", delta="half")],
            {"kind": "stream_incomplete", "retryable": True},
        ),
        ([event("response.completed", response={})], {"kind": "llm_empty_response", "retryable": True}),
        ([b""], {"kind": "llm_empty_response", "retryable": True}),
        ([b"data: {half\n\n"], {"stop_reason": "invalid_llm_response", "retryable": True}),
        ([b"data: 7\n\n"], {"stop_reason": "invalid_llm_response"}),
        (
            [b'{"error":{"message":"no","code":"insufficient_quota"}}'],
            {"stop_reason": "insufficient_credits"},
        ),
    ],
)
def test_every_fault_has_its_class(events: list[bytes], expected: dict[str, Any]) -> None:
    read = decode(events)
    assert read.error is not None
    assert {name: getattr(read.error, name) for name in expected} == expected


def test_halves_of_a_surrogate_pair_in_two_deltas_are_one_character() -> None:
    read = decode(
        [
            event("response.output_text.delta", output_index=0, delta="\ud83d"),
            event("response.output_text.delta", output_index=0, delta="\ude00"),
            event("response.completed", response={}),
        ]
    )
    assert read.text == "😀"
