"""Reduces a run's events to the chunks of a stream, by a table of what each type of event becomes. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actors.events import Event, Logged

# What adds an event's chunks: the reducer, the event, and where to. A type without an entry has no image.
Table = Mapping[type[Event], Callable[[Any, Any, list[bytes]], None]]


class Reducing:
    """Takes events to chunks. As fast as a token needs."""

    def __init__(self, table: Table) -> None:
        self._image = table.get

    def feed(self, batch: Sequence[Logged]) -> list[bytes]:
        """Return the chunks that these events become, each a whole server-sent event."""
        out: list[bytes] = []
        find = self._image
        for logged in batch:
            event = logged.event
            reduce = find(type(event))
            if reduce is not None:
                reduce(self, event, out)
        return out

    def say(self, event: Event) -> list[bytes]:
        """Return the chunks that one event becomes, as `feed` does."""
        out: list[bytes] = []
        reduce = self._image(type(event))
        if reduce is not None:
            reduce(self, event, out)
        return out
