"""What an agent behind chat completions is asked and says, without a server."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors.events import (
    Event,
    Logged,
    MessageCommitted,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from gateway.errors import InvalidRequestError, NotSupportedError
from gateway.letta import completions
from gateway.letta.completions import DONE, ChatCompletionRequest, Completion
from storage.records import Message, RunError, TextPart, ToolCallPart, Usage

RUN = "run-1"
FIRST = "message-00000000-0000-4000-8000-0000000000a1"
SECOND = "message-00000000-0000-4000-8000-0000000000b2"
STARTED = RunStarted(RUN, "agent-1", 1, (), False)
USED = Usage(prompt=5, completion=2, total=7, steps=1)
ENDED = RunFinished(RUN, "completed", "end_turn", USED)


def request(**fields: Any) -> ChatCompletionRequest:
    return msgspec.convert({"model": "agent-1", "messages": [], **fields}, ChatCompletionRequest)


def said(message_id: str, text: str, *, step: str | None = "step-1") -> MessageCommitted:
    message = Message(
        id=message_id,
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id="agent-1",
        position=1,
        role="assistant",
        content=(TextPart(text),),
        step_id=step,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        tokens=1,
    )
    return MessageCommitted(RUN, message)


def completion(**fields: Any) -> Completion:
    return Completion(RUN, "agent-1", 1_700_000_000, **{"tokens": True, **fields})


def chunks(made: Completion, events: Iterable[Event]) -> list[Any]:
    """Return the stream's chunks decoded; the end of the stream as `None`."""
    out = made.feed([Logged(place, event) for place, event in enumerate(events, 1)])
    return [
        None if data == DONE else msgspec.json.decode(data.removeprefix(b"data: ").strip()) for data in out
    ]


def text_of(told: list[Any]) -> str:
    deltas = [choice["delta"] for chunk in told if chunk for choice in chunk.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_only_the_last_user_message_is_read() -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "ok"},
    ]
    assert completions.user_message(request(messages=messages)) == {"role": "user", "content": "two"}


def test_images_are_taken_over_by_address_or_with_their_bytes() -> None:
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    made = completions.user_message(request(messages=[{"role": "user", "content": content}]))
    assert [part["type"] for part in made["content"]] == ["text", "image", "image"]
    assert made["content"][1]["source"] == {"type": "url", "url": "https://example.com/a.png"}
    assert made["content"][2]["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "system", "content": "x"}]}, "/messages"),
        ({"messages": [{"role": "user"}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content/0"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}
                ]
            },
            "/messages/0/content/0",
        ),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "/n"),
    ],
)
def test_what_cannot_be_said_to_an_agent_is_refused_where_it_stands(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        completions.user_message(request(**fields))
    assert refused.value.param == param


def test_tools_are_refused_rather_than_left_out() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(NotSupportedError):
        completions.user_message(request(messages=[{"role": "user", "content": "x"}], tools=tools))


def test_text_goes_out_as_it_comes_and_is_not_repeated_when_it_is_committed() -> None:
    events = (STARTED, TextDelta(RUN, FIRST, "Hel"), TextDelta(RUN, FIRST, "lo"), said(FIRST, "Hello"), ENDED)
    made = completion()
    told = chunks(made, events)
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(told) == "Hello"
    assert told[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert told[-1] is None
    assert made.finished


def test_a_message_whose_deltas_nobody_saw_is_told_whole_and_set_apart() -> None:
    told = chunks(completion(), (STARTED, TextDelta(RUN, FIRST, "A moment."), said(SECOND, "Done."), ENDED))
    assert text_of(told) == "A moment.\n\nDone."


def test_the_whole_answer_is_what_was_committed_last() -> None:
    made = completion(tokens=False)
    events = (
        STARTED,
        said(FIRST, "draft"),
        said(FIRST, "A moment."),
        said(SECOND, ""),
        said("m", "Done."),
        ENDED,
    )
    assert chunks(made, events) == []
    whole = made.whole()
    assert whole.id == "chatcmpl-1"
    assert whole.choices[0].message.content == "A moment.\n\nDone."
    assert whole.usage.total_tokens == 7


def test_what_the_client_sent_is_not_said_back() -> None:
    made = completion()
    assert text_of(chunks(made, (STARTED, said(FIRST, "mine", step=None), ENDED))) == ""


def test_speech_by_a_tool_is_text_and_other_calls_are_silent() -> None:
    events: tuple[Event, ...] = (
        STARTED,
        ToolCallStarted(RUN, FIRST, "call_1", "memory_insert", 0),
        ToolCallDelta(RUN, FIRST, "call_1", '{"message": "no"}'),
        ToolCallEnded(RUN, FIRST, "call_1"),
        ToolCallStarted(RUN, FIRST, "call_2", "send_message", 1),
        ToolCallDelta(RUN, FIRST, "call_2", '{"message": "He'),
        ToolCallDelta(RUN, FIRST, "call_2", 'llo"}'),
        ToolCallEnded(RUN, FIRST, "call_2"),
        ENDED,
    )
    assert text_of(chunks(completion(), events)) == "Hello"
    call = ToolCallPart(id="call_2", name="send_message", arguments='{"message": "Hello"}')
    spoken = msgspec.structs.replace(said(FIRST, "").message, content=(call,))
    assert text_of(chunks(completion(), (STARTED, MessageCommitted(RUN, spoken), ENDED))) == "Hello"


def test_what_was_used_comes_in_a_chunk_of_its_own_where_it_is_asked_for() -> None:
    assert not any("usage" in chunk for chunk in chunks(completion(), (STARTED, ENDED)) if chunk)
    told = chunks(completion(usage=True), (STARTED, ENDED))
    assert told[-2]["choices"] == []
    assert told[-2]["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_an_answer_cut_by_its_length_says_so() -> None:
    cut = msgspec.structs.replace(ENDED, stop_reason="max_tokens_exceeded")
    assert chunks(completion(), (STARTED, cut))[-2]["choices"][0]["finish_reason"] == "length"


def test_a_failure_is_told_as_an_error_and_ends_the_stream() -> None:
    failed = RunFinished(RUN, "failed", "llm_api_error", USED, RunError("llm_timeout", "too slow"))
    *_, error, end = chunks(completion(), (STARTED, failed))
    assert error["error"]["message"] == "too slow"
    assert end is None
    made = completion()
    assert made.broken_off(RunError("stream_incomplete", "gone")).endswith(DONE)
    assert made.finished
