from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import ToolCallDelta, ToolCallEnded, ToolCallStarted
from gateway.letta.messages import show
from gateway.letta.shapes import AssistantMessage, ReasoningMessage, ToolCallMessage
from gateway.letta.speech import DEFAULT_VOICE, Speech, Voice, heard, voice_of
from storage.records import Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import message
from tests.actors.test_jsontext import cuts, pieces

ID = "message-00000000-0000-4000-8000-000000000080"
THOUGHT = ReasoningPart("hm", source="non_reasoner_model")


def stored(*parts: Part, role: str = "assistant") -> Message:
    made = message(1, role, *parts)  # type: ignore[arg-type]
    return type(made)(**{f: getattr(made, f) for f in made.__struct_fields__ if f != "id"}, id=ID)


def speech(arguments: str) -> ToolCallPart:
    return ToolCallPart("c", "send_message", arguments)


def test_speech_is_an_assistants_message_behind_its_thought() -> None:
    thought, said = show(heard(stored(THOUGHT, speech('{"message": "Hi"}')), DEFAULT_VOICE))
    assert isinstance(thought, ReasoningMessage)
    assert isinstance(said, AssistantMessage)
    assert said.content == "Hi"
    assert said.otid is not None
    assert said.otid.endswith("81")


@pytest.mark.parametrize("arguments", ["{}", '{"message": 7}', "[]", "", '{"text": "x"}'])
def test_a_call_that_says_nothing_stays_a_call(arguments: str) -> None:
    (shown,) = show(heard(stored(speech(arguments)), DEFAULT_VOICE))
    assert isinstance(shown, ToolCallMessage)


def test_other_calls_stay_beside_speech() -> None:
    said, called = show(
        heard(stored(speech('{"message": "Hi"}'), ToolCallPart("d", "other", "{}")), DEFAULT_VOICE)
    )
    assert isinstance(said, AssistantMessage)
    assert isinstance(called, ToolCallMessage)
    assert [c.name for c in called.tool_calls] == ["other"]


def test_what_speech_returned_is_hidden_unless_it_failed() -> None:
    def returned(status: Any) -> Message:
        return stored(ToolReturnPart("c", "send_message", status, "x"), role="tool")

    assert show(heard(returned("success"), DEFAULT_VOICE)) == []
    assert len(show(heard(returned("error"), DEFAULT_VOICE))) == 1
    assert len(show(heard(returned("success"), None))) == 1


def test_messages_without_speech_are_the_same_objects() -> None:
    for made in (stored(TextPart("a")), stored(ToolCallPart("c", "f", "{}")), stored(role="user")):
        assert heard(made, DEFAULT_VOICE) is made
    spoken = stored(speech('{"message": "Hi"}'))
    assert heard(spoken, None) is spoken
    assert heard(spoken, Voice("say", "text")) is spoken


@pytest.mark.parametrize(
    ("config", "voice"),
    [
        ({}, DEFAULT_VOICE),
        ({"use_assistant_message": True, "assistant_message_tool_name": None}, DEFAULT_VOICE),
        ({"use_assistant_message": False}, None),
        (
            {"assistant_message_tool_name": "say", "assistant_message_tool_kwarg": "text"},
            Voice("say", "text"),
        ),
    ],
)
def test_a_request_names_the_voice(config: dict[str, Any], voice: Voice | None) -> None:
    assert voice_of(config) == voice


@given(
    st.sampled_from(['{"message": "Hi \\u00fc \\ud83d\\ude00"}', '{"a": 1, "message": "b"}', "{}", "["]), cuts
)
def test_a_stream_hears_what_the_stored_message_says(arguments: str, sizes: list[int]) -> None:
    live = Speech(DEFAULT_VOICE)
    assert live.begins(ToolCallStarted("r", ID, "c", "send_message", 0))
    text = "".join(live.hear(ToolCallDelta("r", ID, "c", p)) or "" for p in pieces(arguments, sizes))
    silent = live.ends(ToolCallEnded("r", ID, "c"))
    (part,) = heard(stored(speech(arguments)), DEFAULT_VOICE).content
    if isinstance(part, TextPart):
        assert (text, silent) == (part.text, None)
    else:
        assert silent is not None
        assert (text, silent[1]) == ("", arguments)


def test_a_call_that_waits_for_somebody_or_of_another_tool_is_no_speech() -> None:
    live = Speech(DEFAULT_VOICE)
    assert not live.begins(ToolCallStarted("r", ID, "c", "send_message", 0, True))
    assert not live.begins(ToolCallStarted("r", ID, "c", "other", 0))
    assert live.hear(ToolCallDelta("r", ID, "c", '{"message": "x"}')) is None
    assert live.ends(ToolCallEnded("r", ID, "c")) is None
