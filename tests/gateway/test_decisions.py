"""Answers and client tools as they arrive."""

from typing import Any

import msgspec
import pytest

from actors.approvals import ONLY_CALL
from gateway import decisions
from gateway.decisions import MAX_CLIENT_TOOLS, DecisionIn
from gateway.errors import InvalidRequestError, NotSupportedError
from storage.pending_records import ClientTool
from storage.records import ApprovalPart, ImagePart, ToolReturnPart


def of(**fields: Any) -> Any:
    """Return what an entry of `approvals` means."""
    [found] = decisions.of_approvals([msgspec.convert({"tool_call_id": "c", **fields}, DecisionIn)], "/m")
    return found


def test_an_entry_is_a_decision_or_a_result_with_or_without_its_type() -> None:
    assert of(approve=True) == of(type="approval", approve=True) == ApprovalPart("c", approve=True)
    assert of(approve=False, reason="no") == ApprovalPart("c", approve=False, reason="no")
    result = ToolReturnPart("c", "", "error", "broken", (), ("trace",))
    assert of(tool_return="broken", status="error", stderr=["trace"]) == result
    assert of(
        type="tool", tool_return=[{"type": "text", "text": "broken"}], status="error", stderr=["trace"]
    ) == (result)


def test_changed_arguments_may_be_text_or_an_object() -> None:
    assert of(approve=True, arguments={"a": 1}) == of(approve=True, arguments='{"a":1}')


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": "tool"},
        {"type": "tool", "tool_return": "x"},
        {"approve": False, "arguments": "{}"},
        {"approve": True, "reason": "x" * 20_000},
        {"tool_call_id": "", "approve": True},
        {"tool_call_id": "c" * 300, "approve": True},
    ],
)
def test_what_says_too_little_or_too_much_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        of(**fields)


def test_a_result_may_hold_images() -> None:
    source = {"type": "url", "url": "https://example.com/a.png"}
    parts = [{"type": "text", "text": "look"}, {"type": "image", "source": source}]
    taken = of(type="tool", tool_return=parts, status="success")
    assert taken == ToolReturnPart("c", "", "success", "look", images=(ImagePart(source),))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ({"type": "url", "url": "file:///etc/passwd"}, InvalidRequestError),
        ({"type": "base64", "media_type": "image/png", "data": "?"}, InvalidRequestError),
        ({"type": "letta", "file_id": "f"}, NotSupportedError),
    ],
)
def test_an_image_in_a_result_that_nobody_could_be_sent_is_refused(
    source: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        of(type="tool", tool_return=[{"type": "image", "source": source}], status="success")
    assert str(getattr(refused.value, "param", "")).startswith("/m/0/tool_return/0/source")


def test_an_older_client_names_the_message_or_nothing() -> None:
    assert decisions.legacy("message-1", True, None, "/m") == ApprovalPart("message-1", approve=True)
    assert decisions.legacy(None, False, "no", "/m") == ApprovalPart(ONLY_CALL, approve=False, reason="no")
    with pytest.raises(InvalidRequestError):
        decisions.legacy("message-1", None, None, "/m")


def test_client_tools_are_checked_before_a_model_sees_them() -> None:
    assert decisions.client_tools(None) is None
    assert decisions.client_tools([]) == ()
    tool = {"name": "weather", "description": "Here.", "parameters": {"type": "object"}}
    assert decisions.client_tools([tool]) == (
        ClientTool(name="weather", description="Here.", parameters={"type": "object"}),
    )


@pytest.mark.parametrize(
    "tools",
    [
        [{}],
        [{"name": "a b"}],
        [{"name": "a" * 65}],
        [{"name": "a"}, {"name": "a"}],
        [{"name": "a", "parameters": {"type": "string"}}],
        [{"name": "a", "description": "x" * 20_000}],
        [{"name": f"t{i}"} for i in range(MAX_CLIENT_TOOLS + 1)],
    ],
)
def test_what_is_no_tool_is_refused(tools: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequestError):
        decisions.client_tools(tools)
