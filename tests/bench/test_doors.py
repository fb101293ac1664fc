"""How servers are spoken to."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.doors import Door, DoorError, Events, post, text_of, whole_text

URL = "http://127.0.0.1:1"


def test_a_message_is_written_as_each_wire_wants_it() -> None:
    said = {"role": "user", "content": "hi"}
    wrote = {
        wire: post(Door(name="x", wire=wire, url=URL, model="m"), "a", "hi", run="r")
        for wire in ("letta", "openai", "agui", "relay")
    }
    bodies = {wire: msgspec.json.decode(one.body) for wire, one in wrote.items()}
    assert wrote["letta"].path == "/v1/agents/a/messages"
    assert bodies["letta"] == {"messages": [said], "streaming": True, "stream_tokens": True}
    assert wrote["openai"].path == "/chat/completions"
    assert bodies["openai"] == {"model": "m", "stream": True, "messages": [said]}
    assert wrote["agui"].path == ""
    assert (bodies["agui"]["threadId"], bodies["agui"]["runId"]) == ("a", "r")
    assert bodies["agui"]["messages"] == [{"id": "message-r", **said}]
    assert bodies["relay"] == {"agent": "a", "text": "hi", "stream": True}


def test_a_blocking_message_asks_for_no_stream() -> None:
    door = Door(name="x", wire="letta", url=URL, way="blocking")
    assert msgspec.json.decode(post(door, "a", "hi", run="r").body) == {
        "messages": [{"role": "user", "content": "hi"}]
    }
    door = Door(name="x", wire="openai", url=URL, way="blocking", model="m", history=3)
    body = msgspec.json.decode(post(door, "a", "hi", run="r").body)
    assert body["stream"] is False
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user", "user"]


def test_over_ag_ui_what_was_said_before_goes_before_the_message() -> None:
    door = Door(name="x", wire="agui", url=URL, history=3)
    body = msgspec.json.decode(post(door, "a", "hi", run="r").body)
    without = msgspec.json.decode(post(msgspec.structs.replace(door, history=0), "a", "hi", run="r").body)
    *before, said = body.pop("messages")
    assert [said] == without.pop("messages")
    assert body == without
    assert [message["role"] for message in before] == ["user", "assistant", "user"]
    assert len({message["id"] for message in [*before, said]}) == 4


@pytest.mark.parametrize(
    ("wire", "data", "text"),
    [
        ("letta", b'{"message_type": "assistant_message", "content": "a b"}', "a b"),
        ("letta", b'{"message_type":"assistant_message","content":[{"type":"text","text":"a"}]}', "a"),
        ("letta", b'{"message_type":"reasoning_message","reasoning":"hm"}', ""),
        ("letta", b'{"message_type":"stop_reason","stop_reason":"end_turn"}', ""),
        ("letta", b"[DONE]", ""),
        ("openai", b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', ""),
        ("openai", b'{"choices":[{"delta":{"content":"a"}}]}', "a"),
        ("openai", b'{"choices":[],"usage":{}}', ""),
        ("agui", b'{"type":"TEXT_MESSAGE_CONTENT","delta":"a"}', "a"),
        ("agui", b'{"type":"TEXT_MESSAGE_CHUNK","delta":"a"}', "a"),
        ("agui", b'{"type":"STATE_DELTA","delta":[{"op":"add"}]}', ""),
        ("agui", b'{"type":"TOOL_CALL_ARGS","delta":"a"}', ""),
    ],
)
def test_only_the_answer_s_text_is_text(wire: str, data: bytes, text: str) -> None:
    assert text_of(wire, data) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        ("letta", b'{"message_type":"error_message","message":"x"}'),
        ("letta", b'{"message_type":"stop_reason","stop_reason":"error"}'),
        ("openai", b'{"error":{"message":"x"}}'),
        ("agui", b'{"type":"RUN_ERROR","message":"x"}'),
        ("agui", b'{"type":'),
    ],
)
def test_a_failure_in_a_stream_is_one(wire: str, data: bytes) -> None:
    with pytest.raises(DoorError):
        text_of(wire, data)  # type: ignore[arg-type]


def test_a_whole_answer_gives_its_text() -> None:
    said = [{"message_type": "reasoning_message"}, {"message_type": "assistant_message", "content": "a"}]
    letta = msgspec.json.encode({"messages": said})
    assert whole_text("letta", letta) == "a"
    assert whole_text("openai", b'{"choices":[{"message":{"content":"a"}}]}') == "a"
    with pytest.raises(DoorError):
        whole_text("letta", b"<html>")


@given(st.data())
def test_events_are_the_same_however_the_stream_is_cut(data: st.DataObject) -> None:
    stream = b': ping\r\n\r\nid: 1\nevent: x\ndata: {"a":1}\n\ndata:{"b":2}\r\n\r\ndata: one\ndata: two\n\n'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    events, found = Events(), list[bytes]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += events.feed(stream[start:end])
    assert found == [b'{"a":1}', b'{"b":2}', b"one\ntwo"]
