"""Builds a model's message from its pieces, and says each piece as an event. Pure."""

from collections.abc import Callable

from actors.approvals import Gate, request_id
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
from actors.llm.model import (
    Finished,
    Piece,
    ReasoningPiece,
    SignaturePiece,
    TextPiece,
    ToolCallPiece,
    UsageReported,
)
from actors.thoughts import Splitter
from storage.records import Part, ReasoningPart, TextPart, ToolCallPart, Usage


class _Call:
    """A tool call under construction."""

    __slots__ = (
        "arguments",
        "id",
        "index",
        "late",
        "message_id",
        "name",
        "signature",
        "splitter",
        "started",
        "thoughts",
    )

    def __init__(
        self, call_id: str, name: str, message_id: str, index: int, splitter: Splitter | None
    ) -> None:
        self.id = call_id
        self.name = name
        self.message_id = message_id
        self.index = index
        self.splitter = splitter
        self.started = False
        self.late = False  # its thoughts came when it had begun
        self.signature: str | None = None
        self.arguments: list[str] = []
        self.thoughts: list[str] = []


class Answer:
    """One attempt of one model call. `shown` says that clients have seen some of it.

    Calls that the gate holds back belong to a message of their own, `request_id`, which asks for them.
    `splits` says of a tool's name that the model's thoughts are an argument of its calls. The model is
    then one that speaks by calls only: its plain text is thought too.
    """

    def __init__(
        self,
        run_id: str,
        message_id: str,
        *,
        taken: Callable[[str], bool],
        fresh: Callable[[], str],
        gate: Gate = Gate(),  # noqa: B008 - frozen
        splits: Callable[[str], bool] | None = None,
        one_call: bool = False,
    ) -> None:
        self.run_id = run_id
        self.message_id = message_id
        self.gate = gate
        self.signer: str | None = None  # the model, where it wants its own thoughts back
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.shown = False
        self._taken = taken
        self._fresh = fresh
        self._splits = splits
        self._one_call = one_call
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._reasoning: list[str] = []
        self._signed: list[tuple[int, ReasoningPart]] = []  # and where in the message they stand
        self._calls: dict[int, _Call] = {}
        self._open: str | None = None
        self._closed = False

    def feed(self, pieces: list[Piece]) -> list[Event]:
        """Take what one network read brought; return it as events."""
        events: list[Event] = []
        for piece in pieces:
            match piece:
                case TextPiece(text):
                    if self._splits is not None:
                        self._think(text, self._thoughts, events)
                        continue
                    if self._open != "text":
                        self._switch("text", events)
                    if not self._text:
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
                case SignaturePiece(signature, index):
                    self._sign(signature, index)
                case UsageReported(usage):
                    self.usage = usage
                case Finished(reason):
                    self.finish = self.finish or reason
        self.shown = self.shown or bool(events)
        return events

    def _call(self, piece: ToolCallPiece, events: list[Event]) -> None:
        call = self._calls.get(piece.index)
        if call is None:
            if self._one_call and self._calls:
                return  # not shown, not kept: the rules could not judge it before the first has a result
            call = self._begun(piece)
        if call.splitter is None:
            self._argue(call, piece.arguments, events)
            return
        thought, arguments = call.splitter.feed(piece.arguments)
        if thought:
            call.late = call.late or (call.started and not call.thoughts)
            self._think(thought, call.thoughts, events)
        if arguments or call.started:
            self._argue(call, arguments, events)

    def _sign(self, signature: str, index: int | None) -> None:
        """Keep what the model wants back: with a call, or with its thoughts since it last signed."""
        if index is not None:
            if (call := self._calls.get(index)) is not None:
                call.signature = signature
            return
        place = 1 + len(self._calls) if self._text or self._calls else 0
        self._signed.append((place, ReasoningPart("".join(self._reasoning), signature, self.signer)))
        self._reasoning = []

    def _begun(self, piece: ToolCallPiece) -> _Call:
        message_id = self.message_id if self.gate.kind(piece.name) is None else self.request_id
        split = self._splits is not None and self._splits(piece.name)
        call = _Call(
            self._unique(piece.id), piece.name, message_id, len(self._calls), Splitter() if split else None
        )
        self._calls[piece.index] = call
        return call

    def _think(self, text: str, kept: list[str], events: list[Event]) -> None:
        """Show thoughts that the model wrote as text or as an argument."""
        if self._open != "reasoning":
            self._switch("reasoning", events)
            events.append(ReasoningStarted(self.run_id, self.message_id))
        kept.append(text)
        events.append(ReasoningDelta(self.run_id, self.message_id, text, "non_reasoner_model"))

    def _argue(self, call: _Call, text: str, events: list[Event]) -> None:
        """Show a call, and a fragment of its arguments."""
        if not call.started:
            call.started = True
            self._switch(call.id, events)
            asks = call.message_id != self.message_id
            events.append(ToolCallStarted(self.run_id, call.message_id, call.id, call.name, call.index, asks))
        if text:
            if self._open == "reasoning":  # thoughts came in the middle of the call
                self._switch(call.id, events)
            call.arguments.append(text)
            events.append(ToolCallDelta(self.run_id, call.message_id, call.id, text))

    def amend(self, call_id: str, arguments: str) -> None:
        """Keep other arguments of a call than the model wrote: those that it is run with."""
        for call in self._calls.values():
            if call.id == call_id:
                call.arguments = [arguments]

    def _unique(self, call_id: str) -> str:
        """Return the provider's id, or a fresh one where the history has that id already."""
        mine = any(call.id == call_id for call in self._calls.values())
        return self._fresh() if not call_id or mine or self._taken(call_id) else call_id

    def _switch(self, to: str | None, events: list[Event]) -> None:
        """Close open reasoning. Text and tool calls stay open until the end: providers interleave them.

        One message has one stream of text, so whoever follows by its id never sees it begin twice.
        """
        if self._open == "reasoning":
            events.append(ReasoningEnded(self.run_id, self.message_id))
        self._open = to

    def restart(self) -> None:
        """Forget an attempt of which nothing was shown, so that the next one begins anew."""
        assert not self.shown, "what was shown is kept"
        self.usage = self.finish = None
        self._signed.clear()
        self._calls.clear()

    def close(self) -> list[Event]:
        """Close whatever is open; return the events that say so. Closing twice says nothing more."""
        events: list[Event] = []
        if self._closed:
            return events
        self._closed = True
        for call in self._calls.values():
            if call.splitter is not None:
                self._argue(call, call.splitter.close(), events)
        self._switch(None, events)
        if self._text:
            events.append(TextEnded(self.run_id, self.message_id))
        events += [ToolCallEnded(self.run_id, call.message_id, call.id) for call in self._calls.values()]
        return events

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """The calls the model asked for, in its order."""
        return tuple(
            ToolCallPart(
                c.id,
                c.name,
                "".join(c.arguments),
                c.signature,
                self.signer if c.signature is not None else None,
            )
            for c in self._calls.values()
        )

    @property
    def request_id(self) -> str:
        """The id of the message that asks for the calls which wait."""
        return request_id(self.message_id)

    @property
    def asked(self) -> tuple[ToolCallPart, ...]:
        """The calls that wait for somebody outside."""
        return tuple(call for call in self.calls if self.gate.kind(call.name) is not None)

    def parts(self) -> tuple[Part, ...]:
        """Return the message's content: reasoning, text, calls; empty where the model said nothing."""
        parts: list[Part] = [part for place, part in self._signed if place == 0]
        if self._reasoning:
            parts.append(ReasoningPart("".join(self._reasoning), signer=self.signer))
        if self._thoughts:
            parts.append(_thought(self._thoughts))
        if self._text:
            parts.append(TextPart("".join(self._text)))
        for number, (call, part) in enumerate(zip(self._calls.values(), self.calls, strict=True)):
            parts += [signed for place, signed in self._signed if place == number + 1]
            own = [_thought(call.thoughts)] if call.thoughts else []
            parts += [part, *own] if call.late else [*own, part]  # as it was shown
        parts += [signed for place, signed in self._signed if place > len(self._calls)]
        return tuple(parts)


def _thought(fragments: list[str]) -> ReasoningPart:
    return ReasoningPart("".join(fragments), source="non_reasoner_model")
