"""Answers to interrupts: what they say, and whether they are whole."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors.commands import Decision
from gateway import interrupts
from gateway.errors import BadArgumentError, InvalidRequestError, WrongStateError
from gateway.interrupts import CANCELLED, Resume
from storage.pending_records import PendingCall, PendingRequest
from storage.records import ApprovalPart, ToolReturnPart

AT = datetime(2026, 5, 1, tzinfo=UTC)


def resume(**fields: Any) -> Resume:
    return msgspec.convert({"interruptId": "c-1", "status": "resolved", **fields}, Resume)


def request(**calls: Any) -> PendingRequest:
    return PendingRequest(
        conversation_id="agent-1",
        agent_id="agent-1",
        organization_id="org-1",
        run_id="run-1",
        step_id="step-1",
        message_id="message-1",
        position=1,
        calls=tuple(PendingCall(id=i, name="n", arguments="{}", kind=kind) for i, kind in calls.items()),
        created_at=AT,
        expires_at=AT,
    )


@pytest.mark.parametrize(
    ("fields", "decision"),
    [
        ({"payload": {"approved": True}}, ApprovalPart("c-1", True)),
        ({"payload": {"approved": False, "reason": "no"}}, ApprovalPart("c-1", False, "no")),
        (
            {"payload": {"approved": True, "editedArgs": {"a": 1}, "reason": None}},
            ApprovalPart("c-1", True, None, '{"a":1}'),
        ),
        ({"payload": {"approved": True, "editedArgs": None}}, ApprovalPart("c-1", True)),
        ({"status": "cancelled"}, ApprovalPart("c-1", False, CANCELLED)),
        ({"status": "cancelled", "payload": {"reason": "late"}}, ApprovalPart("c-1", False, "late")),
        ({"payload": {"content": ""}}, ToolReturnPart("c-1", "", "success", "")),
        ({"payload": {"content": "x", "status": "error"}}, ToolReturnPart("c-1", "", "error", "x")),
        ({"payload": {"approved": True}, "metadata": {"a": 1}}, ApprovalPart("c-1", True)),
    ],
)
def test_an_answer_is_one_decision(fields: dict[str, Any], decision: Decision) -> None:
    assert interrupts.decisions_of([resume(**fields)]) == (decision,)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "/payload/approved"),
        ({"payload": {}}, "/payload/approved"),
        ({"payload": {"reason": "x"}}, "/payload/approved"),
        ({"payload": {"approved": False, "editedArgs": {}}}, "/payload/editedArgs"),
        ({"payload": {"approved": True, "content": "x"}}, "/payload"),
        ({"payload": {"approved": True, "reason": "x" * 10_001}}, "/payload/reason"),
        ({"interruptId": "x" * 257, "status": "cancelled"}, "/interruptId"),
    ],
)
def test_an_answer_that_says_nothing_or_two_things_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        interrupts.decisions_of([resume(**fields)], param="/r")
    assert error.value.param == f"/r/0{param}"


def test_every_interrupt_is_answered_and_nothing_else() -> None:
    waits = request(a="approval", b="client")
    a, b, c = (ApprovalPart(i, False) for i in "abc")
    interrupts.check(waits, [b, a])
    for given, words in (([a], "missing: b"), ([], "missing: a, b"), ([a, b, c], "an answer to c")):
        with pytest.raises(WrongStateError, match=words):
            interrupts.check(waits, given)
    with pytest.raises(WrongStateError, match="an answer to a"):
        interrupts.check(None, [a])


def test_only_a_decision_lets_a_guarded_call_run() -> None:
    results = [ToolReturnPart("b", "", "success", "x"), ApprovalPart("a", True)]
    interrupts.check_kinds(request(a="approval", b="client"), results)
    with pytest.raises(BadArgumentError, match="b waits for a decision"):
        interrupts.check_kinds(request(a="approval", b="approval"), results)
