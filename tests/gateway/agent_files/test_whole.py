"""What a full export holds beside an agent file's own keys is read, up to where the window begins."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.agent_files.reader import Said
from gateway.agent_files.whole import Whole, is_full, read
from gateway.errors import InvalidRequestError
from storage.records import ImagePart, ReasoningPart, TextPart, ToolCallPart, ToolReturnPart

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THEN = "2025-05-05T05:05:05+00:00"
AT = datetime(2025, 5, 5, 5, 5, 5, tzinfo=UTC)


def shown(id_: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "message_type": kind, "date": THEN, "otid": "x", "seq_id": None, **fields}


def parse(room: int = 1000, **keys: Any) -> Whole:
    return read(json.dumps({"agents": [], **keys}).encode(), room=room, now=NOW)


TALK = [
    shown("0", "system_message", content="prompt"),
    shown("1", "user_message", content="hi"),
    shown("2", "reasoning_message", reasoning="hm"),
    shown("2", "assistant_message", content="Let me see."),
    shown("2", "tool_call_message", tool_calls=[{"name": "find", "arguments": "{}", "tool_call_id": "c1"}]),
    shown(
        "3",
        "tool_return_message",
        name="find",
        tool_returns=[{"tool_return": "no", "status": "error", "tool_call_id": "c1"}],
    ),
    shown("4", "summary_message", summary="They said hi."),
    shown("5", "user_message", content="and?"),
    shown("6", "assistant_message", content="So."),
]
BEFORE = (
    Said("user", (TextPart("hi"),), AT),
    Said("assistant", (ReasoningPart("hm"), TextPart("Let me see."), ToolCallPart("c1", "find", "{}")), AT),
    Said("tool", (ToolReturnPart("c1", "find", "error", "no"),), AT),
)


def test_rows_are_put_together_again_and_end_where_the_window_begins() -> None:
    assert parse(recall=TALK, window=["0", "4", "5", "6"]).history == BEFORE


def test_images_of_results_come_back() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    seen = [{"type": "text", "text": "no"}, image]
    talk = [*TALK[:5], {**TALK[5], "tool_returns": [{**TALK[5]["tool_returns"][0], "tool_return": seen}]}]
    found = parse(recall=[*talk, *TALK[6:]], window=["0", "4", "5", "6"]).history[-1]
    images = (ImagePart({"type": "url", "url": "https://example.com/a.png"}),)
    assert found.content == (ToolReturnPart("c1", "find", "error", "no", images=images),)


def test_without_a_shortened_window_nothing_is_history() -> None:
    assert parse(recall=TALK, window=["0", "1", "2", "3", "5", "6"]).history == ()


def test_what_no_model_saw_is_no_history() -> None:
    recall = [
        shown("1", "user_message", content="refused", is_err=True),
        shown("2", "approval_response_message", approvals=[]),
        shown("3", "event_message", event_data={}),
        shown("4", "user_message", content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    ]
    assert parse(recall=recall, window=["9"]).history == (Said("user", (TextPart("a"), TextPart("b")), AT),)


def test_a_request_for_an_approval_is_a_call_like_any_other() -> None:
    call = {"name": "find", "arguments": "{}", "tool_call_id": "c1"}
    recall = [shown("1", "approval_request_message", tool_calls=[call])]
    assert parse(recall=recall, window=["9"]).history == (
        Said("assistant", (ToolCallPart("c1", "find", "{}"),), AT),
    )


def test_the_oldest_go_where_there_is_no_room_and_that_is_told() -> None:
    whole = parse(2, recall=TALK, window=["4", "5", "6"])
    assert whole.history == BEFORE[1:]
    assert len(whole.left_out) == 1
    assert whole.left_out[0].startswith("the oldest 1 messages")
    assert parse(-5, recall=TALK, window=["4", "5", "6"]).history == ()


def test_a_file_that_does_not_say_where_the_window_begins_brings_no_history() -> None:
    whole = parse(recall=TALK)
    assert whole.history == ()
    assert whole.left_out == ("recall: it does not say where the window begins",)


def test_passages_are_taken_without_their_vectors_and_conversations_are_named() -> None:
    archival = [
        {
            "id": "p",
            "text": "tea",
            "tags": ["a"],
            "metadata": {"k": 1},
            "created_at": THEN,
            "embedding": [0.5],
        }
    ]
    whole = parse(archival=archival, conversations=[{"id": "conv-1", "messages": []}])
    [passage] = whole.archival
    assert (passage.text, passage.tags, passage.metadata, passage.created_at) == (
        "tea", ("a",), {"k": 1}, THEN
    )  # fmt: skip
    assert whole.left_out == ("conversations: 1",)


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"recall": [{"id": "1"}], "window": ["1"]}, "/file/recall/0"),
        ({"archival": [{"text": "x"}, {"text": 5}]}, "/file/archival/1/text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(keys: Any, where: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse(**keys)
    assert refused.value.param == where


def test_other_files_are_not_read_twice() -> None:
    assert not is_full(b'{"agents": []}')
    assert is_full(b'{"agents": [], "archival": []}')
