"""What waits for somebody, and which answers fit it."""

from typing import Any

import pytest

from actors import approvals
from actors.approvals import Gate
from actors.commands import Decision, SendMessages
from storage.pending_records import ClientTool, PendingCall, PendingRequest
from storage.records import ApprovalPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import AGENT_ID, BORN, message

ASKED = PendingCall(id="a", name="write", arguments="{}", kind="approval")
AWAITED = PendingCall(id="b", name="weather", arguments="{}", kind="client")


def request(*calls: PendingCall) -> PendingRequest:
    """Return a request for these calls."""
    return PendingRequest(
        conversation_id=AGENT_ID,
        agent_id=AGENT_ID,
        organization_id="org",
        run_id="run-1",
        step_id="step-1",
        message_id="message-9",
        position=2,
        calls=calls,
        created_at=BORN,
        expires_at=BORN,
    )


def answer(*decisions: Decision, **more: Any) -> SendMessages:
    """Return a command that answers."""
    return SendMessages(conversation_id=AGENT_ID, messages=(), approvals=decisions, **more)


def test_rules_and_the_client_s_own_tools_wait_and_the_client_s_hide_the_others() -> None:
    rules = ({"type": "requires_approval", "tool_name": "write"}, {"type": "exit_loop", "tool_name": "say"})
    gate = approvals.gate_of(rules, (ClientTool(name="weather"),))
    assert [gate.kind(name) for name in ("write", "weather", "say")] == ["approval", "client", None]
    assert approvals.gate_of(rules, (ClientTool(name="write"),)).kind("write") == "client"


def test_nobody_is_asked_about_a_call_that_may_not_be_made() -> None:
    gate = Gate(frozenset({"write", "erase"}), frozenset({"weather"})).among(["write", "weather"])
    assert [gate.kind(name) for name in ("write", "erase", "weather")] == ["approval", None, "client"]


def test_the_message_that_asks_has_the_id_just_below_the_model_s() -> None:
    assert approvals.request_id("message-00000000-0000-4000-8000-000000000010") == (
        "message-00000000-0000-4000-8000-00000000000f"
    )
    assert approvals.request_id("message-00000000-0000-0000-0000-000000000000").endswith("ffff")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (answer(), "Expected '['a', 'b']', but received '[]'"),
        (answer(ApprovalPart("a", approve=True)), "but received '['a']'"),
        (answer(*[ApprovalPart("a", approve=True)] * 2), "but received '['a', 'a']'"),
        (answer(ApprovalPart("a", approve=True), ApprovalPart("c", approve=True)), "Invalid tool call IDs"),
        (
            answer(ApprovalPart("a", approve=True), ApprovalPart("b", approve=True)),
            "The client runs 'weather'",
        ),
        (
            answer(
                ApprovalPart("a", approve=True),
                ToolReturnPart("b", "", "success", "Sunny"),
                client_tools=(ClientTool(name="clock"),),
            ),
            "client_tools must name 'weather'",
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_told_why(command: SendMessages, text: str) -> None:
    assert text in (approvals.complaint(request(ASKED, AWAITED), command) or "")


def test_an_answer_in_any_order_fits_and_is_put_in_that_of_the_calls() -> None:
    command = answer(ToolReturnPart("b", "", "success", "Sunny"), ApprovalPart("a", approve=True))
    asked = request(ASKED, AWAITED)
    assert approvals.fits(asked, command)
    assert approvals.decisions_of(asked, command) == (
        ApprovalPart("a", approve=True),
        ToolReturnPart("b", "weather", "success", "Sunny"),
    )


@pytest.mark.parametrize("name", ["message-9", approvals.ONLY_CALL])
def test_an_older_client_s_name_for_the_only_call_is_understood(name: str) -> None:
    command = answer(ApprovalPart(name, approve=True))
    assert approvals.decisions_of(request(ASKED), command) == (ApprovalPart("a", approve=True),)
    assert not approvals.fits(request(ASKED, AWAITED), command)


def test_nobody_can_run_a_client_s_tool_in_its_place() -> None:
    asked = request(ASKED, AWAITED)
    approved, missing = approvals.defaults(asked, "approve")
    assert approved == ApprovalPart("a", approve=True)
    assert isinstance(missing, ToolReturnPart)
    assert missing.status == "error"
    for choice in ("deny", "approve"):
        assert approvals.fits(asked, answer(*approvals.defaults(asked, choice)))


def test_a_denial_is_in_lettas_words() -> None:
    call = ToolCallPart("a", "write", "{}")
    assert approvals.denied(call, "no").text == "Error: request to call tool denied. User reason: no"
    assert approvals.denied(call, None).status == "error"


def test_an_answer_came_before_when_every_call_has_its_result() -> None:
    returned = message(3, "tool", ToolReturnPart("a", "write", "success", "ok"))
    assert approvals.answered_before(answer(ApprovalPart("a", approve=True)), [returned])
    assert not approvals.answered_before(answer(ApprovalPart("b", approve=True)), [returned])
