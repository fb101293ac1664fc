"""What an agent says: the closed union of events that the channels carry.

Streams of text, reasoning and tool arguments have an explicit start, deltas and an end; every event
has exactly one image in each outward dialect (Letta, AG-UI). Lossy events are replaced by the
`MessageCommitted` of the same message id.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from actors.breakdown import Breakdown
from actors.commands import Decision, InputMessage
from actors.summary import CompactionStats
from storage.pending_records import PendingCall
from storage.records import (
    ImagePart,
    Message,
    ReasoningSource,
    RunError,
    RunStatus,
    StopReason,
    Timing,
    ToolStatus,
    Usage,
)


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
    """The one terminal event of a run. `error` is set when `status` is `failed`.

    `interrupts` are the calls that the conversation waits for when `stop_reason` is `requires_approval`,
    and nobody answers them after `interrupts_expire_at`.
    """

    run_id: str
    status: RunStatus
    stop_reason: StopReason
    usage: Usage
    error: RunError | None = None
    interrupts: tuple[PendingCall, ...] = ()
    interrupts_expire_at: datetime | None = None


class RunStopped(Struct, frozen=True, tag_field="type", tag="run_stopped", gc=False):
    """Why a run stops: said right before its `RunFinished`, whatever ends it; `UsageCounted` is between."""

    run_id: str
    stop_reason: StopReason


class UsageCounted(Struct, frozen=True, tag_field="type", tag="usage_counted", gc=False):
    """What all the steps of a run that stops have used."""

    run_id: str
    usage: Usage


class QueueChanged(Struct, frozen=True, tag_field="type", tag="queue_changed", gc=False):
    """A run waits for its conversation, or waits no longer: it began, or was withdrawn.

    `position` is its place while it waits, 1 for the next; `queued` is how many wait from here on.
    It is about the queue, not of the run: who follows the run does not see it.
    """

    run_id: str
    conversation_id: str
    change: Literal["queued", "steered", "started", "withdrawn"]
    position: int
    queued: int


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


class StepTimed(Struct, frozen=True, tag_field="type", tag="step_timed", gc=False):
    """Where the time of a step went that just became durable, its checkpoint included."""

    run_id: str
    step_id: str
    timing: Timing
    usage: Usage


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
    """A fragment of reasoning; `source` says how the model wrote it, as in the stored part."""

    run_id: str
    message_id: str
    text: str
    source: ReasoningSource = "reasoner_model"


class ReasoningEnded(Struct, frozen=True, tag_field="type", tag="reasoning_ended", gc=False):
    """The thoughts are complete."""

    run_id: str
    message_id: str


class ToolCallStarted(Struct, frozen=True, tag_field="type", tag="tool_call_started", gc=False):
    """The model asks for a tool. `index` counts the calls of the step from 0.

    `asks` says that the call does not run before somebody outside answers.
    """

    run_id: str
    message_id: str
    call_id: str
    name: str
    index: int
    asks: bool = False


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


class ToolReturned(Struct, frozen=True, tag_field="type", tag="tool_returned", gc=False, omit_defaults=True):
    """A tool ended. Its committed message follows."""

    run_id: str
    call_id: str
    name: str
    status: ToolStatus
    text: str
    images: tuple[ImagePart, ...] = ()


class MessageCommitted(Struct, frozen=True, tag_field="type", tag="message_committed"):
    """A message is durable, as it stands in the history."""

    run_id: str
    message: Message


class ApprovalRequested(Struct, frozen=True, tag_field="type", tag="approval_requested"):
    """The conversation waits for an answer to these calls: a decision, or a client's own result."""

    run_id: str
    message_id: str
    step_id: str
    calls: tuple[PendingCall, ...]
    expires_at: datetime


class ApprovalAnswered(Struct, frozen=True, tag_field="type", tag="approval_answered"):
    """A request has its answer, and the conversation waits no longer. The results follow or went before."""

    run_id: str
    message_id: str
    decisions: tuple[Decision, ...]


class WindowMoved(Struct, frozen=True, tag_field="type", tag="window_moved", gc=False):
    """Messages before `from_position` no longer fit the model's window; they stay searchable."""

    run_id: str
    from_position: int
    evicted: int


class Compacted(Struct, frozen=True, tag_field="type", tag="compacted"):
    """The window was shortened. Without a summary what left it is only stored, and `error` says why.

    `id` is a message id of its own, under which clients are told of a compaction that left no message.
    Between two runs somebody asked for it, and `run_id` is None.
    """

    run_id: str | None
    id: str
    at: datetime
    stats: CompactionStats
    summary_message_id: str | None = None
    error: RunError | None = None


class WindowMeasured(Struct, frozen=True, tag_field="type", tag="window_measured", gc=False):
    """What fills the conversation's window, in our own tokens, where its system message is another one now.

    Said after a compaction, when memory that a run edited is seen from here on, and as a run begins that
    sees what somebody else edited. `window_tokens` is 0 where nobody offers the agent's model. `messages`
    counts those that models are sent, the system message and the summary among them; `archival` the agent's
    passages, `recall` the messages of the conversation. Between two runs `run_id` is None.
    """

    run_id: str | None
    window_tokens: int
    tokens: Breakdown
    messages: int
    archival: int
    recall: int


class BlockChanged(Struct, frozen=True, tag_field="type", tag="block_changed", gc=False):
    """A memory block has a new committed value, `before` the one that the agent held until then.

    `limit` counts characters, here and in the events below.
    """

    run_id: str | None
    block_id: str
    label: str
    value: str
    version: int
    limit: int = 0
    before: str | None = None


class BlockCreated(Struct, frozen=True, tag_field="type", tag="block_created", gc=False):
    """The agent has one more memory block: it created it, or somebody attached it."""

    run_id: str | None
    block_id: str
    label: str
    value: str
    description: str | None = None
    version: int = 0
    limit: int = 0


class BlockDetached(Struct, frozen=True, tag_field="type", tag="block_detached", gc=False):
    """The agent holds a memory block no longer; if nobody deleted it, it survives without the agent."""

    run_id: str | None
    block_id: str
    label: str
    limit: int = 0


Event = (
    RunStarted
    | RunSteered
    | RunFinished
    | RunStopped
    | UsageCounted
    | QueueChanged
    | StepStarted
    | StepFinished
    | StepTimed
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
    | ApprovalRequested
    | ApprovalAnswered
    | MessageCommitted
    | WindowMoved
    | Compacted
    | WindowMeasured
    | BlockChanged
    | BlockCreated
    | BlockDetached
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
