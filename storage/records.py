"""What is at rest: rows as frozen Structs, one for each table that is read as a whole."""

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from storage.parts import ApprovalPart as ApprovalPart
from storage.parts import ImagePart as ImagePart
from storage.parts import JsonObject as JsonObject
from storage.parts import Part as Part
from storage.parts import ReasoningPart as ReasoningPart
from storage.parts import ReasoningSource as ReasoningSource
from storage.parts import TextPart as TextPart
from storage.parts import ToolCallPart as ToolCallPart
from storage.parts import ToolReturnPart as ToolReturnPart
from storage.parts import ToolStatus as ToolStatus

DEFAULT_ORGANIZATION = "org-00000000-0000-4000-8000-000000000000"
DEFAULT_USER = "user-00000000-0000-4000-8000-000000000000"
SHARDS = 4096

Role = Literal["system", "user", "assistant", "tool", "approval", "summary"]
RunStatus = Literal["created", "running", "completed", "failed", "cancelled"]
StepStatus = Literal["pending", "success", "failed", "cancelled"]
StopReason = Literal[
    "end_turn",
    "error",
    "llm_api_error",
    "invalid_llm_response",
    "invalid_tool_call",
    "max_steps",
    "max_tokens_exceeded",
    "no_tool_call",
    "tool_rule",
    "cancelled",
    "insufficient_credits",
    "requires_approval",
    "context_window_overflow_in_system_prompt",
]


class Message(Struct, frozen=True, kw_only=True):
    """One stored message. `position` orders it in its conversation; position 0 is the system prompt.

    `excluded` messages are listed but never sent to a model; `interrupted` ones hold what was shown
    before a cancel or a cut. `tokens` is counted once, when the message is written.
    """

    id: str
    organization_id: str
    agent_id: str
    conversation_id: str
    position: int
    role: Role
    content: tuple[Part, ...]
    created_at: datetime
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    tokens: int = 0
    excluded: bool = False
    interrupted: bool = False


# --- agents ---------------------------------------------------------------------------------


class ModelSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model is called. `None` leaves the provider's own default in force."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    response_format: JsonObject | None = None
    strict: bool = False
    extra: JsonObject = {}


class AgentSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about an agent that a person configures and no query filters by (column `settings`)."""

    model: str
    system: str
    agent_type: str = "letta_v1_agent"
    model_settings: ModelSettings = ModelSettings()
    context_window_tokens: int | None = None
    embedding: str | None = None
    embedding_config: JsonObject | None = None
    description: str | None = None
    metadata: JsonObject = {}
    tool_rules: tuple[JsonObject, ...] = ()
    compaction_settings: JsonObject | None = None
    timezone: str = "UTC"
    message_buffer_autoclear: bool = False
    enable_sleeptime: bool = False
    max_files_open: int | None = None
    per_file_view_window_char_limit: int | None = None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None


class Agent(Struct, frozen=True, kw_only=True):
    """The durable agent. `fence` and `version` guard its checkpoints (see `storage/__init__.py`)."""

    id: str
    organization_id: str
    name: str
    settings: AgentSettings
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...] = ()
    hidden: bool = False
    fence: int = 0
    version: int = 0
    checkpoint_id: str | None = None
    last_stop_reason: str | None = None
    last_run_completed_at: datetime | None = None
    last_run_duration_ms: int | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None


class AgentChanges(Struct, frozen=True, kw_only=True):
    """What an update changes; `UNSET` leaves a field as it is. `settings` holds the changed keys only."""

    name: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    hidden: bool | UnsetType = UNSET
    settings: JsonObject | UnsetType = UNSET
    last_updated_by_id: str | None = None


class Block(Struct, frozen=True, kw_only=True):
    """A memory block. `version` is its compare-and-set counter; one block may serve many agents."""

    id: str
    organization_id: str
    label: str
    value: str
    created_at: datetime
    updated_at: datetime
    limit_chars: int = 100_000
    description: str | None = None
    read_only: bool = False
    metadata: JsonObject = {}
    hidden: bool = False
    tags: tuple[str, ...] = ()
    project_id: str | None = None
    template: JsonObject = {}
    version: int = 0
    created_by_id: str | None = None
    last_updated_by_id: str | None = None


class BlockChanges(Struct, frozen=True, kw_only=True):
    """What an update changes; `UNSET` leaves a field as it is. `template` is merged key by key."""

    label: str | UnsetType = UNSET
    value: str | UnsetType = UNSET
    limit_chars: int | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    read_only: bool | UnsetType = UNSET
    metadata: JsonObject | UnsetType = UNSET
    hidden: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    project_id: str | UnsetType | None = UNSET
    template: JsonObject | UnsetType = UNSET
    last_updated_by_id: str | None = None


class Tool(Struct, frozen=True, kw_only=True):
    """A tool an agent may hold. `json_schema` is the function schema that models are shown.

    `default_requires_approval` gives agents a rule to ask first, when they are given the tool.
    """

    id: str
    organization_id: str
    name: str
    tool_type: str
    description: str
    json_schema: JsonObject
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...] = ()
    return_char_limit: int = 50_000
    default_requires_approval: bool | None = None


class Conversation(Struct, frozen=True, kw_only=True):
    """An ordered thread of messages. The default one has its agent's id.

    The window that models see is the system message at 0, the summary at `summary_position` if there is
    one, and `[from_position, end_position)` without summaries.
    A fork reads `parent_id` up to `parent_position` and then its own rows.
    """

    id: str
    organization_id: str
    agent_id: str
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None
    parent_position: int | None = None
    from_position: int = 1
    end_position: int = 1
    summary_position: int | None = None
    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: JsonObject | None = None
    last_message_at: datetime | None = None
    archived_at: datetime | None = None


class ConversationChanges(Struct, frozen=True, kw_only=True):
    """What an update changes; `UNSET` leaves a field as it is."""

    summary: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    model_settings: JsonObject | UnsetType | None = UNSET
    last_message_at: datetime | UnsetType | None = UNSET
    archived_at: datetime | UnsetType | None = UNSET


# --- work -----------------------------------------------------------------------------------


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens as the provider reported them; `context` is the prompt of the last call."""

    prompt: int = 0
    completion: int = 0
    total: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    steps: int = 0
    context: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum; `context` is that of the later call."""
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.total + other.total,
            self.cached + other.cached,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
            self.steps + other.steps,
            other.context or self.context,
            self.estimated or other.estimated,
        )


class RunError(Struct, frozen=True, gc=False):
    """Why a run failed, in words chosen for the client: `type` is one of the closed list of Letta's.

    `status` is the HTTP status with which the model's provider refused, if it did.
    """

    type: str
    message: str
    detail: str | None = None
    status: int | None = None


class Run(Struct, frozen=True, kw_only=True):
    """The handling of one accepted command, from acceptance to exactly one terminal event."""

    id: str
    organization_id: str
    agent_id: str
    conversation_id: str
    status: RunStatus
    created_at: datetime
    background: bool = False
    stop_reason: str | None = None
    completed_at: datetime | None = None
    usage: Usage = Usage()
    request_config: JsonObject = {}
    metadata: JsonObject = {}
    error: RunError | None = None
    attempt: int = 0
    ttft_ns: int | None = None
    total_duration_ns: int | None = None
    callback_url: str | None = None


class Timing(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a step's time went, in nanoseconds; the checkpoint's own time is in its event only.

    As it happens: `accept` until the message was durable, unknown where its agent was not in memory; `claim`
    until it was; `queue` until the turn began (these three of a run's first step); `prompt` until the request
    was made, `send` until it was written, `first_token`, `stream`, `tools`, `checkpoint`. `delivery` overlaps
    the stream: from when the answer began to come until whoever follows it had been handed its beginning.
    A request that was sent while the message was being made durable has no `send`, and of the wait for its
    answer only what came after is `first_token`.
    """

    queue: int = 0
    prompt: int = 0
    first_token: int = 0
    stream: int = 0
    tools: int = 0
    checkpoint: int = 0
    compaction: int = 0
    accept: int = 0
    claim: int = 0
    send: int = 0
    delivery: int = 0


FEEDBACK_KEY = "step_feedback"  # where the metadata of a run keep the feedback on its steps, by their ids


class StepFeedback(Struct, frozen=True, omit_defaults=True):
    """What people think of a step."""

    feedback: Literal["positive", "negative"] | None = None
    tags: tuple[str, ...] = ()


class Step(Struct, frozen=True, kw_only=True):
    """One model call and the tool calls it asked for. `feedback` is kept with its run."""

    id: str
    organization_id: str
    agent_id: str
    run_id: str
    position: int
    status: StepStatus
    model: str
    provider: str
    created_at: datetime
    context_window_tokens: int = 0
    usage: Usage = Usage()
    stop_reason: str | None = None
    error: RunError | None = None
    timing: Timing = Timing()
    feedback: StepFeedback | None = None


ToolCallState = Literal["intended", "success", "error", "interrupted", "uncertain"]


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call's intent and outcome; `intended` is committed before a tool with outside effects runs."""

    agent_id: str
    step_id: str
    call_id: str
    name: str
    state: ToolCallState
