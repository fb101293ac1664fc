"""Shows stored messages in the form that Letta keeps them in, which few of its routes give out. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, assert_never

from msgspec import Struct

from storage.records import (
    ApprovalPart,
    ImagePart,
    JsonObject,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)


class InternalMessage(Struct, frozen=True, kw_only=True):
    """A stored message in the form that Letta keeps it in: calls stand apart, as OpenAI writes them."""

    id: str
    role: str
    content: tuple[JsonObject, ...] | None
    created_at: datetime
    agent_id: str
    conversation_id: str | None
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    step_id: str | None = None
    run_id: str | None = None
    tool_calls: tuple[JsonObject, ...] | None = None
    tool_call_id: str | None = None
    tool_returns: tuple[JsonObject, ...] | None = None
    approvals: tuple[JsonObject, ...] | None = None
    is_err: bool | None = None


def internal(message: Message) -> InternalMessage:
    """Return a stored message in Letta's own form."""
    calls = tuple(call(part) for part in message.content if isinstance(part, ToolCallPart))
    returns = [part for part in message.content if isinstance(part, ToolReturnPart)]
    approvals = tuple(_approval(part) for part in message.content if isinstance(part, ApprovalPart))
    return InternalMessage(
        id=message.id,
        role=message.role,
        content=tuple(content(message.content)) or None,
        created_at=message.created_at,
        agent_id=message.agent_id,
        conversation_id=None if message.conversation_id == message.agent_id else message.conversation_id,
        name=message.name or (returns[0].name if returns else None),
        otid=message.otid,
        sender_id=message.sender_id,
        step_id=message.step_id,
        run_id=message.run_id,
        tool_calls=calls or None,
        tool_call_id=returns[0].tool_call_id if returns else None,
        tool_returns=tuple(_return(part) for part in returns) or None,
        approvals=approvals or None,
        is_err=True if message.excluded else None,
    )


def content(parts: Iterable[Part]) -> Iterable[JsonObject]:
    """Yield the parts that are content there: texts, thoughts and images, and results as texts."""
    for part in parts:
        match part:
            case TextPart(text):
                yield {"type": "text", "text": text}
            case ReasoningPart():
                thought = {"type": "reasoning", "is_native": True, "reasoning": part.reasoning}
                yield thought | {"signature": part.signature}
            case ImagePart(source):
                yield {"type": "image", "source": source}
            case ToolReturnPart():
                yield {"type": "text", "text": part.text}
            case ToolCallPart() | ApprovalPart():
                pass
            case _:
                assert_never(part)


def call(part: ToolCallPart) -> JsonObject:
    """Return a call as OpenAI writes it."""
    return {
        "id": part.id,
        "type": "function",
        "function": {"name": part.name, "arguments": part.arguments},
    }


def _return(part: ToolReturnPart) -> JsonObject:
    shown: dict[str, Any] = {"tool_call_id": part.tool_call_id, "status": part.status}
    response = (TextPart(part.text), *part.shown) if part.shown else part.text
    return {**shown, "stdout": part.stdout, "stderr": part.stderr, "func_response": response}


def _approval(part: ApprovalPart) -> JsonObject:
    return {
        "type": "approval",
        "tool_call_id": part.tool_call_id,
        "approve": part.approve,
        "reason": part.reason,
    }
