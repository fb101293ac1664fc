"""Shows the calls by which an agent speaks as what it says: stored messages, and streams. Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from actors.events import ToolCallDelta, ToolCallEnded, ToolCallStarted
from actors.jsontext import MemberReader
from storage.records import Message, Part, TextPart, ToolCallPart, ToolReturnPart


class Voice(Struct, frozen=True):
    """The tool by whose calls an agent speaks, and the argument that holds what it says."""

    tool: str = "send_message"
    argument: str = "message"


DEFAULT_VOICE = Voice()


def voice_of(config: Mapping[str, Any]) -> Voice | None:
    """Return the voice that a run's request asked for; None where calls stay calls."""
    if config.get("use_assistant_message") is False:
        return None
    return Voice(
        config.get("assistant_message_tool_name") or DEFAULT_VOICE.tool,
        config.get("assistant_message_tool_kwarg") or DEFAULT_VOICE.argument,
    )


def heard(message: Message, voice: Voice | None) -> Message:
    """Return a message with calls that say something as text, and without what such calls returned.

    A call that says nothing (its argument is missing) stays a call, and a return that is an error stays
    a return: somebody should see them.
    """
    if voice is None or message.role not in ("assistant", "tool"):
        return message
    if not any(
        isinstance(p, ToolCallPart | ToolReturnPart) and p.name == voice.tool for p in message.content
    ):
        return message
    parts = (_heard(part, voice) for part in message.content)
    return replace(message, content=tuple(part for part in parts if part is not None))


def _heard(part: Part, voice: Voice) -> Part | None:
    match part:
        case ToolReturnPart(name=voice.tool, status="success"):
            return None
        case ToolCallPart(name=voice.tool):
            reader = MemberReader(voice.argument)
            text = reader.feed(part.arguments)
            return TextPart(text) if reader.found else part
        case _:
            return part


class Speech:
    """The calls of one stream that are speech, while their arguments arrive."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._calls: dict[str, tuple[ToolCallStarted, MemberReader, list[str]]] = {}

    def begins(self, event: ToolCallStarted) -> bool:
        """Say whether a call is speech; one that waits for somebody outside is not."""
        if event.name != self._voice.tool or event.asks:
            return False
        self._calls[event.call_id] = event, MemberReader(self._voice.argument), []
        return True

    def hear(self, event: ToolCallDelta) -> str | None:
        """Return what a fragment says; None where its call is no speech."""
        call = self._calls.get(event.call_id)
        if call is None:
            return None
        _, reader, fragments = call
        fragments.append(event.text)
        return reader.feed(event.text)

    def ends(self, event: ToolCallEnded) -> tuple[ToolCallStarted, str] | None:
        """Return a call that said nothing, with its arguments, so that it is shown as a call after all."""
        call = self._calls.pop(event.call_id, None)
        if call is None or call[1].found:
            return None
        return call[0], "".join(call[2])
