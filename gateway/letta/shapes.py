"""The messages that Letta's clients know, as Structs: what they are told is one of these."""

from typing import Literal

from msgspec import Struct

from actors.summary import CompactionStats
from storage.records import ImagePart, JsonObject, TextPart

MessageType = Literal[
    "system_message",
    "user_message",
    "assistant_message",
    "reasoning_message",
    "hidden_reasoning_message",
    "tool_call_message",
    "tool_return_message",
    "approval_request_message",
    "approval_response_message",
    "summary_message",
    "event_message",
]


class Shown(Struct, frozen=True, kw_only=True):
    """What every LettaMessage has. `date` is in whole seconds, `is_err` is null unless true."""

    id: str
    date: str
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    step_id: str | None = None
    is_err: bool | None = None
    seq_id: int | None = None
    run_id: str | None = None


class SystemMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="system_message"):
    """The system prompt, or what a client said in that role."""

    content: str


class UserMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="user_message"):
    """What a person said: text, or parts where there is more than one or an image."""

    content: str | tuple[TextPart | ImagePart, ...]


class AssistantMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="assistant_message"):
    """What the model said."""

    content: str


class ReasoningMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="reasoning_message"):
    """What the model thought."""

    source: Literal["reasoner_model", "non_reasoner_model"] = "reasoner_model"
    reasoning: str
    signature: str | None = None


class ToolCall(Struct, frozen=True, gc=False):
    """One call; `arguments` is JSON text."""

    name: str
    arguments: str
    tool_call_id: str


class ToolCallMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="tool_call_message"):
    """The calls the model asked for; the deprecated `tool_call` is the first."""

    tool_call: ToolCall
    tool_calls: tuple[ToolCall, ...]


class ToolReturn(Struct, frozen=True, tag_field="type", tag="tool"):
    """The result of one call: its text, or the parts of it where it has images."""

    tool_return: str | tuple[TextPart | ImagePart, ...]
    status: Literal["success", "error"]
    tool_call_id: str
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None


class ToolReturnMessage(
    Shown, frozen=True, kw_only=True, tag_field="message_type", tag="tool_return_message"
):
    """Results of calls; the deprecated single fields are the first one's."""

    tool_return: str
    status: Literal["success", "error"]
    tool_call_id: str
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None
    tool_returns: tuple[ToolReturn, ...]


class ApprovalRequestMessage(
    Shown, frozen=True, kw_only=True, tag_field="message_type", tag="approval_request_message"
):
    """Calls that wait for somebody: to be approved, or to be run by a client."""

    tool_call: ToolCall
    tool_calls: tuple[ToolCall, ...]


class ApprovalReturn(Struct, frozen=True, tag_field="type", tag="approval"):
    """A decision on one call. `arguments`, where they are given, replaced those of the model."""

    tool_call_id: str
    approve: bool
    reason: str | None = None
    arguments: str | None = None


class ApprovalResponseMessage(
    Shown, frozen=True, kw_only=True, tag_field="message_type", tag="approval_response_message"
):
    """The answer to calls that waited; the deprecated single fields are set where it decided on one."""

    approvals: tuple[ApprovalReturn | ToolReturn, ...]
    approve: bool | None = None
    approval_request_id: str | None = None
    reason: str | None = None


class SummaryMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="summary_message"):
    """What stands for messages that left the window, and what that did to the window."""

    summary: str
    compaction_stats: CompactionStats | None = None


class EventMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="event_message"):
    """Something that happened to the conversation itself; only streams and answers tell it."""

    event_type: Literal["compaction"] = "compaction"
    event_data: JsonObject


LettaMessage = (
    SystemMessage
    | UserMessage
    | AssistantMessage
    | ReasoningMessage
    | ToolCallMessage
    | ToolReturnMessage
    | ApprovalRequestMessage
    | ApprovalResponseMessage
    | SummaryMessage
    | EventMessage
)
