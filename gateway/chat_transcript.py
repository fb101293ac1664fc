"""Turns the events of an answer into what is shown: each message once, however often its stream is cut.

A stream may be taken up again, and a server that was killed tells a run again from its start, with whole
messages instead of words. What was shown to its end is not shown again; what was cut is shown anew.
"""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from gateway.chat_view import Kind, View
from gateway.letta_stream import ATTEMPT

SHOWN = ("reasoning_message", "assistant_message", "tool_call_message", "tool_return_message")

# (message id, its type, which stretch of that type): thoughts and text may alternate within a message.
Stretch = tuple[str, str, int]

_KINDS: Mapping[str, Kind] = {"assistant_message": "answer", "reasoning_message": "reasoning"}


class Call(Struct, frozen=True):
    """A tool call, or a fragment of one: later fragments have no name."""

    name: str | None = None
    arguments: str | None = None
    tool_call_id: str = ""


class Return(Struct, frozen=True):
    """What a tool call came to."""

    tool_return: str
    status: str


class Chunk(Struct, frozen=True, kw_only=True):
    """One event of a stream, or one message of a list; which fields are set depends on its type."""

    message_type: str
    id: str = ""
    run_id: str | None = None
    seq_id: int | None = None
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] | Call = ()  # fragments come one by one
    tool_returns: tuple[Return, ...] = ()
    stop_reason: str = ""
    error_type: str = ""
    message: str = ""


class Transcript:
    """What was shown of one answer. `after` is the number after which its stream is to be taken up."""

    def __init__(self, view: View) -> None:
        self.after = 0
        self._view = view
        self._seq = 0
        self._shown: set[Stretch] = set()
        self._current: Stretch | None = None
        self._last: tuple[str, str] | None = None
        self._stretches: Counter[tuple[str, str]] = Counter()
        self._calls: dict[str, Call] = {}

    def feed(self, chunk: Chunk) -> None:
        """Show what this event adds."""
        if chunk.message_type not in SHOWN:
            return
        seq = chunk.seq_id or self._seq
        if seq // ATTEMPT != self._seq // ATTEMPT:
            self.retold()
        place = (chunk.id, chunk.message_type)
        if place != self._last:
            self.finish()
            self._last = place
            self._stretches[place] += 1
        self._seq = seq
        stretch = (*place, self._stretches[place])
        if stretch not in self._shown:
            self._show(stretch, chunk)

    def finish(self) -> None:
        """What is being shown is whole."""
        if self._current is not None:
            if self._current[1] in _KINDS:
                self._view.end()
            for call in self._calls.values():
                self._view.call(call.name or "?", call.arguments or "")
            self._calls.clear()
            self._shown.add(self._current)
        self._current = self._last = None
        self.after = self._seq

    def interrupted(self) -> None:
        """The stream was cut: what is unfinished will come again, whole."""
        if self._current is not None and self._current[1] in _KINDS:
            self._view.drop()
        if self._last is not None:
            self._stretches[self._last] -= 1
        self._calls.clear()
        self._current = self._last = None
        self._seq = self.after

    def retold(self) -> None:
        """What follows tells the answer again from its beginning."""
        self.interrupted()
        self._stretches.clear()

    def _show(self, stretch: Stretch, chunk: Chunk) -> None:
        kind = _KINDS.get(chunk.message_type)
        if kind is not None:
            if self._current is None:
                self._view.begin(kind)
            self._view.text(chunk.content or chunk.reasoning)
        for call in (chunk.tool_calls,) if isinstance(chunk.tool_calls, Call) else chunk.tool_calls:
            self._gather(call)
        for result in chunk.tool_returns:
            self._view.result(result.tool_return, good=result.status != "error")
        self._current = stretch
        if chunk.tool_returns:  # these come whole
            self.finish()

    def _gather(self, part: Call) -> None:
        known = self._calls.get(part.tool_call_id, Call())
        arguments = (known.arguments or "") + (part.arguments or "")
        self._calls[part.tool_call_id] = Call(part.name or known.name, arguments, part.tool_call_id)
