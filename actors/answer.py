"""Builds a model's message from its pieces, and says each piece as an event. Pure."""

from collections.abc import Callable

from actors.events import (
    Event,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from actors.llm.model import Finished, Piece, ReasoningPiece, TextPiece, ToolCallPiece, UsageReported
from storage.records import Part, ReasoningPart, TextPart, ToolCallPart, Usage


class _Call:
    """A tool call under construction."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []


class Answer:
    """One attempt of one model call. `shown` says that clients have seen some of it."""

    def __init__(
        self, run_id: str, message_id: str, *, taken: Callable[[str], bool], fresh: Callable[[], str]
    ) -> None:
        self.run_id = run_id
        self.message_id = message_id
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.shown = False
        self._taken = taken
        self._fresh = fresh
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._open: str | None = None
        self._closed = False

    def feed(self, pieces: list[Piece]) -> list[Event]:
        """Take what one network read brought; return it as events."""
        events: list[Event] = []
        for piece in pieces:
            match piece:
                case TextPiece(text):
                    if self._open != "text":
                        self._switch("text", events)
                        events.append(TextStarted(self.run_id, self.message_id))
                    self._text.append(text)
                    events.append(TextDelta(self.run_id, self.message_id, text))
                case ReasoningPiece(text):
                    if self._open != "reasoning":
                        self._switch("reasoning", events)
                        events.append(ReasoningStarted(self.run_id, self.message_id))
                    self._reasoning.append(text)
                    events.append(ReasoningDelta(self.run_id, self.message_id, text))
                case ToolCallPiece():
                    self._call(piece, events)
                case UsageReported(usage):
                    self.usage = usage
                case Finished(reason):
                    self.finish = self.finish or reason
        self.shown = self.shown or bool(events)
        return events

    def _call(self, piece: ToolCallPiece, events: list[Event]) -> None:
        call = self._calls.get(piece.index)
        if call is None:
            call = self._calls[piece.index] = _Call(self._unique(piece.id), piece.name)
            self._switch(call.id, events)
            events.append(
                ToolCallStarted(self.run_id, self.message_id, call.id, call.name, len(self._calls) - 1)
            )
        if piece.arguments:
            call.arguments.append(piece.arguments)
            events.append(ToolCallDelta(self.run_id, self.message_id, call.id, piece.arguments))

    def _unique(self, call_id: str) -> str:
        """Return the provider's id, or a fresh one where the history has that id already."""
        mine = any(call.id == call_id for call in self._calls.values())
        return self._fresh() if not call_id or mine or self._taken(call_id) else call_id

    def _switch(self, to: str | None, events: list[Event]) -> None:
        """Close the open stream. Tool calls stay open until the end: providers interleave them."""
        if self._open == "text":
            events.append(TextEnded(self.run_id, self.message_id))
        elif self._open == "reasoning":
            events.append(ReasoningEnded(self.run_id, self.message_id))
        self._open = to

    def close(self) -> list[Event]:
        """Close whatever is open; return the events that say so. Closing twice says nothing more."""
        events: list[Event] = []
        if self._closed:
            return events
        self._closed = True
        self._switch(None, events)
        events += [ToolCallEnded(self.run_id, self.message_id, call.id) for call in self._calls.values()]
        return events

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """The calls the model asked for, in its order."""
        return tuple(ToolCallPart(c.id, c.name, "".join(c.arguments)) for c in self._calls.values())

    def parts(self) -> tuple[Part, ...]:
        """Return the message's content: reasoning, text, calls; empty where the model said nothing."""
        parts: list[Part] = []
        if self._reasoning:
            parts.append(ReasoningPart("".join(self._reasoning)))
        if self._text:
            parts.append(TextPart("".join(self._text)))
        return (*parts, *self.calls)
