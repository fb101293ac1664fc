from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.chat.transcript import Call, Return, Stored, Transcript
from gateway.client.events import (
    Custom,
    Event,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    RunStarted,
    StepStarted,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
    Unknown,
)
from tests.gateway.chat_views import Memory

Part = tuple[str, str]  # kind and text

BEGIN = RunStarted("agent-1", "run-1")


def _message(kinds: list[str]) -> list[str]:
    """Make neighbours of one kind one part, and put the calls last, as stored messages do."""
    spoken = [kind for kind in kinds if kind != "call"]
    merged = [kind for kind, before in zip(spoken, [None, *spoken], strict=False) if kind != before]
    return [*merged, "call"] if "call" in kinds else merged


messages = st.lists(
    st.lists(st.sampled_from(["reasoning", "answer", "call"]), min_size=1, max_size=5).map(_message),
    min_size=1,
    max_size=4,
)


def live(told: list[list[str]], *, attempt: int, begin: int = 0) -> list[Event]:
    """Return the events of an answer word by word; messages before `begin` come whole, as after a restart."""
    events: list[Event] = [BEGIN]
    for number, kinds in enumerate(told):
        life = 1 if number < begin else attempt
        if number >= begin:
            for place, kind in enumerate(kinds):
                events += _spoken(f"{number}-{life}", kind, f"{number}.{place}.{life} said")
        events.append(committed(told, number, life))
        if "call" in kinds:
            call_id, text = f"call-{number}-{life}", f"{number}.{life} returned"
            if number >= begin:
                events.append(ToolReturned(f"result-{call_id}", call_id, text))
            result = {"id": f"result-{call_id}", "role": "tool", "toolCallId": call_id, "content": text}
            events.append(_committed(f"message-result-{number}-{life}", "tool", result))
    return events


def _spoken(name: str, kind: str, text: str) -> list[Event]:
    pieces = [text[:3], text[3:5], text[5:]]
    match kind:
        case "answer":
            message = f"message-{name}"
            return [
                TextStarted(message),
                *(TextDelta(message, piece) for piece in pieces),
                TextEnded(message),
            ]
        case "reasoning":
            message = f"reasoning-{name}"
            deltas = [ReasoningDelta(message, piece) for piece in pieces]
            return [ReasoningStarted(message), *deltas, ReasoningEnded(message)]
        case _:
            call = f"call-{name}"
            fragments = [ToolCallDelta(call, piece) for piece in pieces]
            return [ToolCallStarted(call, "tool", f"message-{name}"), *fragments, ToolCallEnded(call)]


def committed(told: list[list[str]], number: int, life: int) -> Custom:
    """Return the commit of a message; its thoughts are left out."""
    said: dict[str, Any] = {"id": f"message-{number}-{life}", "role": "assistant"}
    for place, kind in enumerate(told[number]):
        text = f"{number}.{place}.{life} said"
        if kind == "answer":
            said["content"] = said.get("content", "") + text
        elif kind == "call":
            function = {"name": "tool", "arguments": text}
            said["toolCalls"] = [{"id": f"call-{number}-{life}", "type": "function", "function": function}]
    return _committed(said["id"], "assistant", said)


def _committed(message_id: str, role: str, *said: dict[str, Any]) -> Custom:
    value = {"id": message_id, "messageId": message_id, "role": role, "stepId": "step-1", "messages": said}
    return Custom("wakeful.message", Raw(msgspec.json.encode(value)))


def stored(told: list[list[str]], *, before: int) -> list[Stored]:
    """Return the messages before this one as REST lists them."""
    found: list[Stored] = []
    for number, kinds in enumerate(told[:before]):
        message = f"message-{number}-1"
        for place, kind in enumerate(kinds):
            text = f"{number}.{place}.1 said"
            match kind:
                case "answer":
                    found.append(Stored(message_type="assistant_message", id=message, content=text))
                case "reasoning":
                    found.append(Stored(message_type="reasoning_message", id=message, reasoning=text))
                case _:
                    call = Call("tool", text, f"call-{number}-1")
                    found.append(Stored(message_type="tool_call_message", id=message, tool_calls=(call,)))
        if "call" in kinds:
            result = Return(f"{number}.1 returned", "success", f"call-{number}-1")
            found.append(Stored(message_type="tool_return_message", id="r", tool_returns=(result,)))
    return found


def parts(told: list[list[str]], *, attempt: int, begin: int = 0) -> list[Part]:
    """Return what a person should see of an answer."""
    seen: list[Part] = []
    for number, kinds in enumerate(told):
        life = 1 if number < begin else attempt
        for place, kind in enumerate(kinds):
            text = f"{number}.{place}.{life} said"
            seen.append((kind, f"tool {text}" if kind == "call" else text))
        if "call" in kinds:
            seen.append(("good", f"{number}.{life} returned"))
    return seen


@given(messages, st.lists(st.integers(0, 40), max_size=4), st.integers(0, 4))
def test_however_often_it_is_told_anew_each_message_is_shown_once_and_whole(
    told: list[list[str]], cuts: list[int], read: int
) -> None:
    view = Memory()
    transcript = Transcript(view)
    for cut in cuts:
        for event in live(told, attempt=1)[:cut]:
            transcript.feed(event)
        transcript.retold()
        for message in stored(told, before=min(read, len(told))) if cut > 35 else ():
            transcript.tell(message)
    for event in live(told, attempt=1):
        transcript.feed(event)
    transcript.finish()
    expected = parts(told, attempt=1)
    assert sorted(view.shown) == sorted(expected)
    if not any(cut > 35 for cut in cuts):
        assert view.shown == expected


@given(messages, st.integers(0, 60), st.integers(0, 60))
def test_after_a_restart_what_was_committed_is_not_repeated_and_what_was_not_is_told_anew(
    told: list[list[str]], cut: int, commits: int
) -> None:
    view = Memory()
    transcript = Transcript(view)
    for event in live(told, attempt=1)[:cut]:
        transcript.feed(event)
    begin = min(commits, len(told) - 1)
    transcript.retold()
    for message in stored(told, before=begin):
        transcript.tell(message)
    for event in live(told, attempt=2, begin=begin):
        transcript.feed(event)
    transcript.finish()
    expected = parts(told, attempt=2, begin=begin)
    assert [part for part in view.shown if part in expected] == expected
    assert len(set(view.shown)) == len(view.shown)


@given(messages)
def test_what_was_committed_before_anybody_listened_is_told_by_its_commit(told: list[list[str]]) -> None:
    view = Memory()
    transcript = Transcript(view)
    for event in live(told, attempt=1, begin=len(told)):
        transcript.feed(event)
    text = "".join(said for kind, said in view.shown if kind == "answer")
    assert text == "".join(said for kind, said in parts(told, attempt=1) if kind == "answer")
    others = [part for part in parts(told, attempt=1) if part[0] in ("call", "good")]
    assert [part for part in view.shown if part[0] in ("call", "good")] == others


def test_what_is_stored_tells_the_rest_of_an_answer_whose_log_is_gone() -> None:
    view = Memory()
    transcript = Transcript(view)
    told = [["reasoning", "call"], ["answer"]]
    for event in live(told, attempt=1)[:8]:
        transcript.feed(event)
    transcript.retold()
    for message in stored(told, before=2):
        transcript.tell(message)
    transcript.finish()
    assert view.shown == parts(told, attempt=1)


def test_fragments_of_parallel_calls_find_their_calls() -> None:
    view = Memory()
    transcript = Transcript(view)
    for event in (
        ToolCallStarted("a", "one", "m"),
        ToolCallStarted("b", "two", "m"),
        ToolCallDelta("a", "{1"),
        ToolCallDelta("b", "{2}"),
        ToolCallDelta("a", "}"),
        ToolCallEnded("a"),
        ToolCallEnded("b"),
    ):
        transcript.feed(event)
    assert view.shown == [("call", "one {1}"), ("call", "two {2}")]


def test_a_call_that_ends_while_text_is_open_waits_for_its_end() -> None:
    view = Memory()
    transcript = Transcript(view)
    for event in (
        TextStarted("m"),
        TextDelta("m", "Let me "),
        ToolCallStarted("a", "look", "m"),
        ToolCallEnded("a"),
        TextDelta("m", "look."),
        TextEnded("m"),
    ):
        transcript.feed(event)
    assert view.shown == [("answer", "Let me look."), ("call", "look ")]


@pytest.mark.parametrize("took_back", [Custom("wakeful.retract", Raw(b'{"attempt":1}')), BEGIN])
def test_an_attempt_that_is_taken_back_leaves_nothing_unfinished(took_back: Event) -> None:
    view = Memory()
    transcript = Transcript(view)
    for event in (*live([["answer"]], attempt=1)[:3], took_back, *live([["answer"]], attempt=2)):
        transcript.feed(event)
    transcript.finish()
    assert view.dropped == ["0.0"]
    assert view.shown == [("answer", "0.0.2 said")]


def test_a_failed_tool_is_shown_as_such_and_other_events_are_not_shown() -> None:
    view = Memory()
    transcript = Transcript(view)
    transcript.feed(StepStarted("step-1"))
    transcript.feed(Unknown(Raw(b"{}")))
    transcript.feed(Custom("wakeful.timing", Raw(b"{}")))
    transcript.feed(ToolReturned("m", "a", "no such block", {"wakeful": {"status": "error"}}))
    transcript.finish()
    assert view.shown == [("bad", "no such block")]


def test_an_image_in_a_result_is_named() -> None:
    parts = [{"type": "text", "text": "Click."}, {"type": "image", "source": {"type": "url"}}]
    said = {"id": "result-b", "role": "tool", "toolCallId": "b", "content": parts}
    stored = {"message_type": "tool_return_message", "id": "message-3"}
    stored["tool_returns"] = [{"tool_return": parts, "status": "success", "tool_call_id": "c"}]  # type: ignore[assignment]
    view = Memory()
    transcript = Transcript(view)
    transcript.feed(ToolReturned("m", "a", parts))
    transcript.feed(_committed("message-2", "tool", said))
    transcript.tell(msgspec.convert(stored, Stored))
    assert view.shown == [("good", "Click.\n[image]")] * 3


@pytest.mark.parametrize("whole", [True, False])
def test_a_call_by_which_the_agent_speaks_is_an_answer(whole: bool) -> None:
    view = Memory()
    transcript = Transcript(view)
    arguments = '{"message":"Hello \\"you\\"."}'
    if not whole:
        transcript.feed(ToolCallStarted("a", "send_message", "message-1"))
        for at in range(0, len(arguments), 5):
            transcript.feed(ToolCallDelta("a", arguments[at : at + 5]))
        transcript.feed(ToolCallEnded("a"))
    function = {"name": "send_message", "arguments": arguments}
    said = {"id": "message-1", "role": "assistant", "toolCalls": [{"id": "a", "function": function}]}
    transcript.feed(_committed("message-1", "assistant", said))
    transcript.feed(ToolReturned("m", "a", "sent"))
    assert view.shown == [("answer", 'Hello "you".')]


def test_a_speech_without_its_words_is_shown_as_the_call_it_is() -> None:
    view = Memory()
    transcript = Transcript(view)
    for event in (
        ToolCallStarted("a", "send_message", "m"),
        ToolCallDelta("a", '{"text":"hm"}'),
        ToolCallEnded("a"),
        ToolReturned("m", "a", "there is no message", {"wakeful": {"status": "error"}}),
    ):
        transcript.feed(event)
    assert view.shown == [("call", 'send_message {"text":"hm"}'), ("bad", "there is no message")]


def test_what_a_client_sent_is_not_shown_as_an_answer() -> None:
    view = Memory()
    transcript = Transcript(view)
    said = {"id": "m", "role": "assistant", "content": "I was sent."}
    value = {"messageId": "m", "role": "assistant", "messages": [said]}
    transcript.feed(Custom("wakeful.message", Raw(msgspec.json.encode(value))))
    assert view.shown == []
