"""Stored messages in the form that Letta keeps them in."""

from datetime import UTC, datetime

import msgspec

from gateway.letta.internal import internal
from storage.records import (
    DEFAULT_ORGANIZATION,
    ApprovalPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

AT = datetime(2026, 5, 1, tzinfo=UTC)


def shown(
    role: Role, *parts: Part, conversation_id: str = "agent-1", excluded: bool = False
) -> dict[str, object]:
    message = Message(
        id="message-1",
        organization_id=DEFAULT_ORGANIZATION,
        agent_id="agent-1",
        conversation_id=conversation_id,
        position=1,
        role=role,
        content=parts,
        created_at=AT,
        excluded=excluded,
    )
    return msgspec.json.decode(msgspec.json.encode(internal(message)))


def test_calls_stand_apart_from_thoughts_and_texts() -> None:
    said = shown("assistant", ReasoningPart("hm", "sig"), TextPart("hi"), ToolCallPart("c", "f", "{}"))
    assert said["content"] == [
        {"type": "reasoning", "is_native": True, "reasoning": "hm", "signature": "sig"},
        {"type": "text", "text": "hi"},
    ]
    assert said["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    assert (said["conversation_id"], said["is_err"]) == (None, None)


def test_a_result_is_a_text_and_a_return() -> None:
    returned = shown("tool", ToolReturnPart("c", "f", "error", "no", ("out",), ("err",)))
    assert returned["content"] == [{"type": "text", "text": "no"}]
    assert (returned["name"], returned["tool_call_id"]) == ("f", "c")
    [one] = returned["tool_returns"]  # type: ignore[misc]
    assert one == {
        "tool_call_id": "c",
        "status": "error",
        "stdout": ["out"],
        "stderr": ["err"],
        "func_response": "no",
    }


def test_images_decisions_and_what_no_model_sees_are_told() -> None:
    source = {"type": "url", "url": "https://example.com"}
    assert shown("user", ImagePart(source))["content"] == [{"type": "image", "source": source}]
    decided = shown("approval", ApprovalPart("c", True), conversation_id="conv-1", excluded=True)
    assert decided["approvals"] == [
        {"type": "approval", "tool_call_id": "c", "approve": True, "reason": None}
    ]
    assert (decided["content"], decided["conversation_id"], decided["is_err"]) == (None, "conv-1", True)
