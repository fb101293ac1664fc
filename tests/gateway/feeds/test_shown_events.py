"""Events as they are shown: whole, or shortened with a word about it."""

from typing import Any

import msgspec
import pytest

from actors.commands import InputMessage
from actors.events import Event, MessageCommitted, RunStarted, TextDelta, ToolReturned
from gateway.agui import images as agui
from gateway.feeds import shown_events
from gateway.feeds.shown_events import EVENT_BYTES
from storage.records import TextPart
from tests.actors.pieces import message

BIG = "x\n" * 400_000


def shown(event: Event) -> dict[str, Any]:
    data = shown_events.image(event, "conv-1")
    assert len(data) <= EVENT_BYTES
    return msgspec.json.decode(data)


@pytest.mark.parametrize(
    "event",
    [
        ToolReturned("run-1", "call-1", "read", "success", BIG),
        RunStarted("run-1", "conv-1", 1, (InputMessage(role="user", content=(TextPart(BIG),)),)),
        RunStarted("run-1", "conv-1", 1, (InputMessage(role="user", content=(TextPart("x" * 999),)),) * 999),
        MessageCommitted("run-1", message(1, "assistant", TextPart(BIG))),
    ],
)
def test_what_is_too_large_is_cut_and_says_so(event: Event) -> None:
    data = shown(event)
    whole = msgspec.json.decode(agui.image(event, "conv-1"))
    assert data["type"] == whole["type"]
    assert data.keys() - {"metadata"} == whole.keys() - {"metadata"}
    told = data["metadata"]["wakeful"]
    assert told["truncated"] is True
    assert told["bytes"] > EVENT_BYTES
    assert told["see"] == "/v1/conversations/conv-1/messages"


def test_what_fits_is_shown_as_it_is() -> None:
    event = ToolReturned("run-1", "call-1", "read", "success", "x" * 1000)
    assert shown_events.image(event, "conv-1") == agui.image(event, "conv-1")


def test_a_fragment_is_never_cut() -> None:
    event = TextDelta("run-1", "m1", BIG)
    assert msgspec.json.decode(shown_events.image(event, "conv-1"))["delta"] == BIG
