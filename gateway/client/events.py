"""The AG-UI events that a client reads, as typed values; others pass through as they came. Pure."""

from typing import Any

import msgspec
from msgspec import Raw, Struct


class RunStarted(Struct, frozen=True, tag_field="type", tag="RUN_STARTED", rename="camel"):
    """A run began, or began again after a crash."""

    thread_id: str
    run_id: str


class Outcome(Struct, frozen=True):
    """How a run ended: `success`, `cancelled`, or `interrupt` with what it waits for."""

    type: str
    interrupts: tuple[dict[str, Any], ...] = ()


class RunFinished(Struct, frozen=True, tag_field="type", tag="RUN_FINISHED", rename="camel"):
    """A run ended and did not fail."""

    thread_id: str
    run_id: str
    outcome: Outcome = Outcome("success")
    result: dict[str, Any] | None = None


class RunError(Struct, frozen=True, tag_field="type", tag="RUN_ERROR", rename="camel"):
    """A run failed."""

    message: str
    code: str = ""


class StepStarted(Struct, frozen=True, tag_field="type", tag="STEP_STARTED", rename="camel"):
    """A model call begins."""

    step_name: str


class StepFinished(Struct, frozen=True, tag_field="type", tag="STEP_FINISHED", rename="camel"):
    """A step is durable."""

    step_name: str


class TextStarted(Struct, frozen=True, tag_field="type", tag="TEXT_MESSAGE_START", rename="camel"):
    """Text begins."""

    message_id: str
    role: str = "assistant"


class TextDelta(Struct, frozen=True, tag_field="type", tag="TEXT_MESSAGE_CONTENT", rename="camel"):
    """A fragment of text."""

    message_id: str
    delta: str


class TextEnded(Struct, frozen=True, tag_field="type", tag="TEXT_MESSAGE_END", rename="camel"):
    """Text is complete."""

    message_id: str


class ReasoningStarted(Struct, frozen=True, tag_field="type", tag="REASONING_MESSAGE_START", rename="camel"):
    """Thoughts begin."""

    message_id: str


class ReasoningDelta(Struct, frozen=True, tag_field="type", tag="REASONING_MESSAGE_CONTENT", rename="camel"):
    """A fragment of thoughts."""

    message_id: str
    delta: str


class ReasoningEnded(Struct, frozen=True, tag_field="type", tag="REASONING_MESSAGE_END", rename="camel"):
    """The thoughts are complete."""

    message_id: str


class ToolCallStarted(Struct, frozen=True, tag_field="type", tag="TOOL_CALL_START", rename="camel"):
    """The model asks for a tool."""

    tool_call_id: str
    tool_call_name: str
    parent_message_id: str = ""


class ToolCallDelta(Struct, frozen=True, tag_field="type", tag="TOOL_CALL_ARGS", rename="camel"):
    """A fragment of a call's JSON arguments."""

    tool_call_id: str
    delta: str


class ToolCallEnded(Struct, frozen=True, tag_field="type", tag="TOOL_CALL_END", rename="camel"):
    """A call's arguments are complete."""

    tool_call_id: str


class ToolReturned(Struct, frozen=True, tag_field="type", tag="TOOL_CALL_RESULT", rename="camel"):
    """What a tool returned."""

    message_id: str
    tool_call_id: str
    content: Any = ""
    metadata: dict[str, Any] = {}


class StateSnapshot(Struct, frozen=True, tag_field="type", tag="STATE_SNAPSHOT"):
    """The whole shared state."""

    snapshot: Any


class StateDelta(Struct, frozen=True, tag_field="type", tag="STATE_DELTA"):
    """What changed of the shared state, as a JSON Patch (RFC 6902)."""

    delta: tuple[dict[str, Any], ...]


class Custom(Struct, frozen=True, tag_field="type", tag="CUSTOM"):
    """An event of ours that AG-UI has no type for; `name` is dotted."""

    name: str
    value: Raw = Raw(b"null")


class Unknown(Struct, frozen=True):
    """Data of another type, as it came."""

    data: Raw


Known = (
    RunStarted
    | RunFinished
    | RunError
    | StepStarted
    | StepFinished
    | TextStarted
    | TextDelta
    | TextEnded
    | ReasoningStarted
    | ReasoningDelta
    | ReasoningEnded
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallEnded
    | ToolReturned
    | StateSnapshot
    | StateDelta
    | Custom
)
Event = Known | Unknown

_known: msgspec.json.Decoder[Known] = msgspec.json.Decoder(Known)


def event(data: Raw) -> Event:
    """Return what a publication shows."""
    try:
        return _known.decode(data)
    except msgspec.ValidationError:
        return Unknown(data)
