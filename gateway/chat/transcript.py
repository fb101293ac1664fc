"""Turns the events of an answer into what is shown: each message once, however often it is told.

A server that was killed tells a run again from its start, with whole messages where it had committed them.
What was shown to its end is not shown again; what was cut is taken back and shown anew.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from actors.jsontext import MemberReader
from gateway.chat.view import Kind, View
from gateway.client import events as client_events
from gateway.client.events import Custom, Event
from gateway.letta.speech import DEFAULT_VOICE

SHOWN = ("reasoning_message", "assistant_message", "tool_call_message", "tool_return_message")

# (message, kind, which stretch of that kind): thoughts and text may alternate within a message.
# Calls and what they returned have the call's id.
Stretch = tuple[str, str, int]

_KINDS: Mapping[str, Kind] = {"assistant_message": "answer", "reasoning_message": "reasoning"}


class Call(Struct, frozen=True):
    """A tool call."""

    name: str | None = None
    arguments: str | None = None
    tool_call_id: str = ""


class Return(Struct, frozen=True):
    """What a tool call came to: text, or parts of which some are images."""

    tool_return: Any
    status: str
    tool_call_id: str = ""


class Stored(Struct, frozen=True, kw_only=True):
    """One message as REST lists it; which fields are set depends on its type."""

    message_type: str
    id: str = ""
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    tool_returns: tuple[Return, ...] = ()


class _Part(Struct, frozen=True):
    """A part of a result, as REST and AG-UI have it."""

    type: str
    text: str | None = None


class _Function(Struct, frozen=True):
    name: str
    arguments: str = ""


class _ToolCall(Struct, frozen=True):
    id: str
    function: _Function


class _Said(Struct, frozen=True, rename="camel"):
    """A message as AG-UI has it."""

    id: str
    role: str
    content: Any = None
    tool_calls: tuple[_ToolCall, ...] = ()
    tool_call_id: str = ""
    error: str | None = None


class _Committed(Struct, frozen=True, rename="camel"):
    message_id: str
    role: str
    step_id: str | None = None
    messages: tuple[_Said, ...] = ()


class _Calling:
    """A call whose arguments are arriving; `speech` reads the text of one by which the agent speaks."""

    def __init__(self, message: str, name: str) -> None:
        self.message = message
        self.name = name
        self.arguments: list[str] = []
        self.speaks = False
        self.speech = MemberReader(DEFAULT_VOICE.argument) if name == DEFAULT_VOICE.tool else None


class Transcript:
    """What was shown of one answer."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._shown: set[Stretch] = set()
        self._open: Stretch | None = None  # being shown
        self._told: Stretch | None = None  # being told, shown or not
        self._stretches: Counter[tuple[str, str]] = Counter()
        self._calling: dict[str, _Calling] = {}
        self._speeches: set[str] = set()
        self._later: list[tuple[Stretch, Call | Return]] = []  # what came while text was open

    # --- told live --------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Show what this event adds."""
        match event:
            case client_events.RunStarted():
                self.retold()
            case client_events.TextStarted(message_id):
                self._begin(_bare(message_id), "answer")
            case client_events.ReasoningStarted(message_id):
                self._begin(_bare(message_id), "reasoning")
            case client_events.TextDelta(_, text) | client_events.ReasoningDelta(_, text):
                self._text(text)
            case client_events.TextEnded() | client_events.ReasoningEnded():
                self._end()
            case client_events.ToolCallStarted(call_id, name, message_id):
                self._calling[call_id] = _Calling(_bare(message_id), name)
            case client_events.ToolCallDelta(call_id, text):
                self._argue(call_id, text)
            case client_events.ToolCallEnded(call_id):
                self._called(call_id)
            case client_events.ToolReturned(_, call_id, content, metadata):
                failed = metadata.get("wakeful", {}).get("status") == "error"
                self._returned(Return(content, "error" if failed else "success", call_id))
            case Custom("wakeful.retract"):
                self.interrupted()
            case Custom("wakeful.message", value):
                self._committed(msgspec.json.decode(value, type=_Committed))
            case _:
                pass

    def finish(self) -> None:
        """What is being shown is whole."""
        if self._told is not None:
            self._end()

    def interrupted(self) -> None:
        """What is unfinished will come again, whole, or not at all."""
        if self._open is not None:
            self._view.drop()
        if self._told is not None:
            self._stretches[self._told[:2]] -= 1
        self._open = self._told = None
        self._calling.clear()
        self._shown.difference_update(stretch for stretch, _ in self._later)
        self._later.clear()

    def retold(self) -> None:
        """What follows tells the answer again from its beginning."""
        self.interrupted()
        self._stretches.clear()

    def _begin(self, message: str, kind: Kind) -> None:
        self.finish()
        self._stretches[message, kind] += 1
        self._told = (message, kind, self._stretches[message, kind])
        if self._told not in self._shown:
            self._open = self._told
            self._view.begin(kind)

    def _text(self, text: str) -> None:
        if self._open is not None:
            self._view.text(text)

    def _end(self) -> None:
        if self._open is not None:
            self._view.end()
            self._shown.add(self._open)
        self._open = self._told = None
        self._show_later()

    def _argue(self, call_id: str, text: str) -> None:
        calling = self._calling.get(call_id)
        if calling is None:
            return
        calling.arguments.append(text)
        if calling.speech is None or not (said := calling.speech.feed(text)):
            return
        if not calling.speaks:
            calling.speaks = True
            self._speeches.add(call_id)
            self._begin(calling.message, "answer")
        self._text(said)

    def _called(self, call_id: str) -> None:
        calling = self._calling.pop(call_id, None)
        if calling is None:
            return
        if calling.speech is not None and calling.speech.found:
            self._end()
        else:
            self._show((call_id, "call", 1), Call(calling.name, "".join(calling.arguments), call_id))

    def _returned(self, returned: Return) -> None:
        if returned.status == "error" or returned.tool_call_id not in self._speeches:
            self._show((returned.tool_call_id, "return", 1), returned)

    def _show(self, stretch: Stretch, what: Call | Return) -> None:
        """Show a call or its result once, after the text that is open."""
        if stretch in self._shown:
            return
        self._shown.add(stretch)
        self._later.append((stretch, what))
        if self._open is None:
            self._show_later()

    def _show_later(self) -> None:
        later, self._later = self._later, []
        for _, what in later:
            if isinstance(what, Call):
                self._view.call(what.name or "?", what.arguments or "")
            else:
                self._view.result(_text_of(what.tool_return), good=what.status != "error")

    # --- told whole -------------------------------------------------------------------------------

    def tell(self, stored: Stored) -> None:
        """Show a stored message that was not shown yet. Call `retold`, then tell all of a run's, in order."""
        kind = _KINDS.get(stored.message_type)
        if kind is not None:
            self._whole(_bare(stored.id), kind, stored.content or stored.reasoning)
        for call in stored.tool_calls:
            self._show((call.tool_call_id, "call", 1), call)
        for returned in stored.tool_returns:
            self._returned(returned)

    def _committed(self, message: _Committed) -> None:
        """Show a committed message of the agent whose words did not come before it."""
        if message.step_id is None:
            return
        bare = _bare(message.message_id)
        for said in message.messages:
            match said.role:
                case "assistant":
                    if said.content and not self._stretches[bare, "answer"]:
                        self._whole(bare, "answer", str(said.content))
                    for call in said.tool_calls:
                        self._committed_call(bare, call)
                case "tool":
                    status = "success" if said.error is None else "error"
                    self._returned(Return(said.content, status, said.tool_call_id))
                case _:
                    pass

    def _committed_call(self, message: str, call: _ToolCall) -> None:
        if call.id in self._speeches:
            return
        calling = _Calling(message, call.function.name)
        said = "" if calling.speech is None else calling.speech.feed(call.function.arguments)
        if calling.speech is not None and calling.speech.found:
            self._speeches.add(call.id)
            self._whole(message, "answer", said)
        else:
            self._show((call.id, "call", 1), Call(call.function.name, call.function.arguments, call.id))

    def _whole(self, message: str, kind: Kind, text: str) -> None:
        self._begin(message, kind)
        self._text(text)
        self._end()


def _text_of(content: object) -> str:
    """Return a result as text; an image in it is only named."""
    if isinstance(content, str):
        return content
    parts = msgspec.convert(content, list[_Part])
    return "\n".join(f"[{part.type}]" if part.text is None else part.text for part in parts)


def _bare(message_id: str) -> str:
    """Return what a message's ids have in common, in every dialect."""
    return message_id.removeprefix("message-").removeprefix("reasoning-")
