"""Reducing events to chunks, by a table of what each type becomes."""

from typing import Any

from actors.events import Event, Logged, TextDelta, TextEnded
from gateway.reducing import Reducing


class Echo(Reducing):
    """Says texts again."""

    def __init__(self) -> None:
        super().__init__({TextDelta: Echo._text})

    def _text(self, event: Any, out: list[bytes]) -> None:
        out.append(event.text.encode())


EVENTS: list[Event] = [
    TextDelta("run-1", "message-1", "one"),
    TextEnded("run-1", "message-1"),
    TextDelta("run-1", "message-1", "two"),
]


def test_a_batch_becomes_its_chunks_in_order_and_an_event_without_an_entry_becomes_none() -> None:
    batch = [Logged(place, event) for place, event in enumerate(EVENTS, 1)]
    assert Echo().feed(batch) == [b"one", b"two"]


def test_an_event_said_alone_becomes_what_it_becomes_in_a_batch() -> None:
    assert [Echo().say(event) for event in EVENTS] == [[b"one"], [], [b"two"]]
