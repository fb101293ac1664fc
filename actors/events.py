"""What an agent says: the closed union of events that the channels carry.

Streams of text, reasoning and tool arguments have an explicit start, deltas and an end; every event
has exactly one image in each outward dialect (Letta, AG-UI). Lossy events are replaced by the
`MessageCommitted` of the same message id.
"""

from datetime import datetime

from msgspec import Struct

from actors.commands import InputMessage
from storage.records import Message, RunError, RunStatus, StopReason, Timing, ToolStatus, Usage


class RunStarted(Struct, frozen=True, tag_field="type", tag="run_started"):
    """A run began, or began again: `attempt` counts the activations that found its command waiting."""

    run_id: str
    conversation_id: str
    attempt: int
    messages: tuple[InputMessage, ...]
    background: bool = False


class RunSteered(Struct, frozen=True, tag_field="type", tag="run_steered"):
    """A run joined the running one: whoever follows `run_id` follows `into` from here."""

    run_id: str
    into: str
    messages: tuple[InputMessage, ...] = ()


class RunFinished(Struct, frozen=True, tag_field="type", tag="run_finished"):
    """The one terminal event of a run. `error` is set when `status` is `failed`."""

    run_id: str
    status: RunStatus
    stop_reason: StopReason
    usage: Usage
    error: RunError | None = None


class StepStarted(Struct, frozen=True, tag_field="type", tag="step_started"):
    """A model call begins. `message_id` and `at` are the id and time its assistant message will have."""

    run_id: str
    step_id: str
    attempt: int
    model: str
    message_id: str
    at: datetime


class StepFinished(Struct, frozen=True, tag_field="type", tag="step_finished"):
    """A step is durable."""

    run_id: str
    step_id: str
    usage: Usage
    timing: Timing


class Retracted(Struct, frozen=True, tag_field="type", tag="retracted"):
    """What was shown of this attempt of this step will not be in the history."""

    run_id: str
    step_id: str
    attempt: int


class TextStarted(Struct, frozen=True, tag_field="type", tag="text_started", gc=False):
    """Assistant text begins."""

    run_id: str
    message_id: str


class TextDelta(Struct, frozen=True, tag_field="type", tag="text_delta", gc=False):
    """A fragment of assistant text."""

    run_id: str
    message_id: str
    text: str


class TextEnded(Struct, frozen=True, tag_field="type", tag="text_ended", gc=False):
    """Assistant text is complete."""

    run_id: str
    message_id: str


class ReasoningStarted(Struct, frozen=True, tag_field="type", tag="reasoning_started", gc=False):
    """The model begins to think aloud."""

    run_id: str
    message_id: str


class ReasoningDelta(Struct, frozen=True, tag_field="type", tag="reasoning_delta", gc=False):
    """A fragment of reasoning."""

    run_id: str
    message_id: str
    text: str


class ReasoningEnded(Struct, frozen=True, tag_field="type", tag="reasoning_ended", gc=False):
    """The thoughts are complete."""

    run_id: str
    message_id: str


class ToolCallStarted(Struct, frozen=True, tag_field="type", tag="tool_call_started", gc=False):
    """The model asks for a tool. `index` counts the calls of the message from 0."""

    run_id: str
    message_id: str
    call_id: str
    name: str
    index: int


class ToolCallDelta(Struct, frozen=True, tag_field="type", tag="tool_call_delta", gc=False):
    """A fragment of a call's JSON arguments."""

    run_id: str
    message_id: str
    call_id: str
    text: str


class ToolCallEnded(Struct, frozen=True, tag_field="type", tag="tool_call_ended", gc=False):
    """A call's arguments are complete."""

    run_id: str
    message_id: str
    call_id: str


class ToolReturned(Struct, frozen=True, tag_field="type", tag="tool_returned", gc=False):
    """A tool ended. Its committed message follows."""

    run_id: str
    call_id: str
    name: str
    status: ToolStatus
    text: str


class MessageCommitted(Struct, frozen=True, tag_field="type", tag="message_committed"):
    """A message is durable, as it stands in the history."""

    run_id: str
    message: Message


class WindowMoved(Struct, frozen=True, tag_field="type", tag="window_moved", gc=False):
    """Messages before `from_position` no longer fit the model's window; they stay searchable."""

    run_id: str
    from_position: int
    evicted: int


class BlockChanged(Struct, frozen=True, tag_field="type", tag="block_changed", gc=False):
    """A memory block has a new committed value."""

    run_id: str | None
    block_id: str
    label: str
    value: str
    version: int


Event = (
    RunStarted
    | RunSteered
    | RunFinished
    | StepStarted
    | StepFinished
    | Retracted
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
    | MessageCommitted
    | WindowMoved
    | BlockChanged
)

Delta = TextDelta | ReasoningDelta | ToolCallDelta


class Logged(Struct, frozen=True, gc=False):
    """An event at its place in its channel's log."""

    offset: int
    event: Event


class Position(Struct, frozen=True, gc=False):
    """A place in a channel: everything up to and including `offset` of this `epoch` was seen."""

    epoch: str
    offset: int
