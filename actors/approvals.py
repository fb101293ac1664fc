"""Decides which calls wait for somebody outside, whether an answer fits, and what it means. Pure."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from actors.commands import Decision, InputMessage, SendMessages
from storage.pending_records import ClientTool, PendingCall, PendingRequest
from storage.records import (
    ApprovalPart,
    JsonObject,
    Message,
    TextPart,
    Tool,
    ToolCallPart,
    ToolReturnPart,
)

NOTHING_PENDING = (
    "Cannot process approval response: No tool call is currently awaiting approval. "
    "Please send a regular message to interact with the agent."
)
DENIAL = "Error: request to call tool denied. User reason: "  # how the results of denied calls begin
NO_REASON = "none was given"
CANCELLED = "The user cancelled the request, so the tool call was denied."
EXPIRED = "Nobody answered in time, so the tool call was denied."
UNANSWERED = "Nobody ran this call in time."
KEEP_ALIVE = (
    "[This is an automated system message hidden from the user] The answer to your tool call had been "
    "received before. Continue from where you stopped."
)
ONLY_CALL = ""  # for an id: the one call that waits
RECENT = 10  # messages in which a repeated answer is looked for

Kind = Literal["approval", "client"]


class Gate(Struct, frozen=True):
    """Tools of which no call runs before somebody answers; the client's own hide others of their name."""

    approval: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()

    def kind(self, name: str) -> Kind | None:
        """Return what a call of this tool waits for, `None` where it waits for nothing."""
        if name in self.client:
            return "client"
        return "approval" if name in self.approval else None

    def among(self, offered: Collection[str]) -> "Gate":
        """Return the gate of a call that may use these tools only: others are refused, nobody is asked."""
        return Gate(self.approval.intersection(offered), self.client)


def gate_of(tool_rules: Sequence[JsonObject], client_tools: Sequence[ClientTool]) -> Gate:
    """Return what an agent's rules and a request's own tools let wait."""
    return Gate(approval_names(tool_rules), frozenset(tool.name for tool in client_tools))


def approval_names(tool_rules: Sequence[JsonObject]) -> frozenset[str]:
    """Return the tools that need an approval."""
    return frozenset(
        str(rule["tool_name"])
        for rule in tool_rules
        if rule.get("type") == "requires_approval" and "tool_name" in rule
    )


def with_defaults(tool_rules: Sequence[JsonObject], given: Iterable[Tool]) -> tuple[JsonObject, ...]:
    """Return the rules of an agent that is given tools: those that ask by default do, once."""
    asking = approval_names(tool_rules)
    added = (tool.name for tool in given if tool.default_requires_approval and tool.name not in asking)
    return (*tool_rules, *({"type": "requires_approval", "tool_name": name} for name in added))


def request_id(message_id: str) -> str:
    """Return the id of the message that asks, beside the model's own: its UUID less one, as Letta has it."""
    value = uuid.UUID(message_id.removeprefix("message-")).int
    return f"message-{uuid.UUID(int=(value - 1) % (1 << 128))}"


def keep_alive(command: SendMessages) -> SendMessages:
    """Return what a model is told where an answer came again and nothing else was said with it."""
    told = InputMessage(role="user", content=(TextPart(KEEP_ALIVE),))
    return replace(command, messages=(told,))


# --- answers ------------------------------------------------------------------------------------


def complaint(request: PendingRequest, command: SendMessages) -> str | None:
    """Return why an answer does not fit the request, in words for the client; `None` where it does."""
    given = [d.tool_call_id for d in command.approvals]
    decisions = _by_call(request, command.approvals)
    expected = [call.id for call in request.calls]
    if len(given) != len(expected) or set(decisions) != set(expected):
        return f"Invalid tool call IDs. Expected '{expected}', but received '{given}'."
    for call in request.calls:
        decision = decisions[call.id]
        if call.kind == "client" and isinstance(decision, ApprovalPart) and decision.approve:
            return f"The client runs {call.name!r}: answer call {call.id!r} with its result, or deny it."
    offered = {tool.name for tool in command.client_tools or ()}
    if command.client_tools:
        for call in request.calls:
            if call.kind == "client" and call.name not in offered:
                return f"client_tools must name {call.name!r}, of which a result is awaited."
    return None


def fits(request: PendingRequest, command: SendMessages) -> bool:
    """Say whether the command answers just what the request asks."""
    return complaint(request, command) is None


def decisions_of(request: PendingRequest, command: SendMessages) -> tuple[Decision, ...]:
    """Return the decisions of an answer that fits, in the order of the calls, each by its call's own id."""
    decided = _by_call(request, command.approvals)
    return tuple(_named(decided[call.id], call) for call in request.calls)


def _by_call(request: PendingRequest, decisions: Sequence[Decision]) -> dict[str, Decision]:
    """Return decisions by call. Older clients name the message instead of its only call, or nothing."""
    names = (ONLY_CALL, request.message_id)
    if len(request.calls) == 1 and len(decisions) == 1 and decisions[0].tool_call_id in names:
        return {request.calls[0].id: decisions[0]}
    return {d.tool_call_id: d for d in decisions}


def _named(decision: Decision, call: PendingCall) -> Decision:
    if isinstance(decision, ToolReturnPart):
        return replace(decision, tool_call_id=call.id, name=call.name)
    return replace(decision, tool_call_id=call.id)


def denials(request: PendingRequest, reason: str) -> tuple[Decision, ...]:
    """Return the answer that denies every call."""
    return tuple(ApprovalPart(call.id, approve=False, reason=reason) for call in request.calls)


def defaults(request: PendingRequest, choice: Literal["deny", "approve"]) -> tuple[Decision, ...]:
    """Return the answer that is given when nobody else did. Nobody can run a client's tool in its place."""
    if choice == "deny":
        return denials(request, EXPIRED)
    return tuple(
        ApprovalPart(call.id, approve=True)
        if call.kind == "approval"
        else ToolReturnPart(call.id, call.name, "error", UNANSWERED)
        for call in request.calls
    )


def denied(call: ToolCallPart, reason: str | None) -> ToolReturnPart:
    """Return the result of a call that was denied."""
    return ToolReturnPart(call.id, call.name, "error", DENIAL + (reason or NO_REASON))


def answered_before(command: SendMessages, recent: Iterable[Message]) -> bool:
    """Say whether every call that the command answers has its result among recent messages."""
    answered = {
        part.tool_call_id
        for message in recent
        if message.role == "tool"
        for part in message.content
        if isinstance(part, ToolReturnPart)
    }
    return {d.tool_call_id for d in command.approvals} <= answered
