"""Interrupts: the calls that a conversation waits for, and the answers to them, all at once."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Literal

import anyio
import msgspec
from msgspec import Struct

from actors.commands import Decision, InputMessage, Receipt, SendMessages
from actors.host import Host
from gateway import decisions, deliveries, inputs
from gateway.auth import Caller
from gateway.decisions import MAX_ID_CHARS, MAX_REASON_CHARS
from gateway.deliveries import ACCEPT_SECONDS
from gateway.errors import BadArgumentError, InvalidRequestError, WrongStateError
from gateway.inputs import Content
from storage import inbox, pending
from storage.errors import KeyReusedError
from storage.pending_records import PendingRequest
from storage.pool import connection
from storage.records import ApprovalPart, JsonObject, ToolReturnPart

REMEMBERED = timedelta(hours=24)  # how long an answer may be repeated
CANCELLED = "The user cancelled the request."


class Payload(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is said to an interrupt: a decision (`approved`), or the result of a call that the client ran.

    `editedArgs` replace the arguments that the model wrote; `reason` tells the model why not. A result is
    text, or parts (text and images) as REST takes them.
    """

    approved: bool | None = None
    edited_args: JsonObject | None = None
    reason: str | None = None
    content: str | Content | None = None
    status: Literal["success", "error"] = "success"


class Resume(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The answer to one interrupt. `cancelled` means no; `metadata` is for whoever sent it."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Payload | None = None
    metadata: JsonObject | None = None


def decisions_of(resume: Sequence[Resume], *, param: str = "/resume") -> tuple[Decision, ...]:
    """Return the decisions that answers stand for, in their order. `param` points at them in the request.

    Raises:
        InvalidRequestError: There are none, one says neither yes nor no nor a result, or two answer the same.
    """
    if not resume:
        raise InvalidRequestError("resume must answer every open interrupt", param=param)
    if len({one.interrupt_id for one in resume}) < len(resume):
        raise InvalidRequestError("an interrupt is answered once", param=param)
    return tuple(_decision(one, f"{param}/{place}") for place, one in enumerate(resume))


def _decision(one: Resume, at: str) -> Decision:
    payload = one.payload or Payload()
    if not 0 < len(one.interrupt_id) <= MAX_ID_CHARS:
        raise InvalidRequestError(f"an id has 1 to {MAX_ID_CHARS} characters", param=f"{at}/interruptId")
    if payload.reason is not None and len(payload.reason) > MAX_REASON_CHARS:
        raise InvalidRequestError(
            f"a reason has at most {MAX_REASON_CHARS} characters", param=f"{at}/payload/reason"
        )
    if one.status == "cancelled":
        return ApprovalPart(one.interrupt_id, approve=False, reason=payload.reason or CANCELLED)
    if payload.content is not None:
        if payload.approved is not None:
            raise InvalidRequestError(
                "give approved, or the content of a result, not both", param=f"{at}/payload"
            )
        text, images = decisions.returned(payload.content, f"{at}/payload/content")
        return ToolReturnPart(one.interrupt_id, "", payload.status, text, images=images)
    if payload.approved is None:
        raise InvalidRequestError(
            "say approved: true or false, or give the content of a result", param=f"{at}/payload/approved"
        )
    if payload.edited_args is None:
        return ApprovalPart(one.interrupt_id, payload.approved, payload.reason)
    if not payload.approved:
        raise InvalidRequestError("editedArgs go with approved: true", param=f"{at}/payload/editedArgs")
    arguments = msgspec.json.encode(payload.edited_args).decode()
    return ApprovalPart(one.interrupt_id, True, payload.reason, arguments)


def check(request: PendingRequest | None, decisions: Sequence[Decision]) -> None:
    """Check that an answer names all that waits, and nothing else. A resume is never partial.

    Raises:
        WrongStateError: It does not; the text names what is missing, or does not wait.
    """
    given = [decision.tool_call_id for decision in decisions]
    waiting = [] if request is None else [call.id for call in request.calls]
    if strange := [one for one in given if one not in waiting]:
        raise WrongStateError(f"nothing waits for an answer to {', '.join(strange)}")
    if missing := [one for one in waiting if one not in given]:
        raise WrongStateError(f"answer all open interrupts at once; missing: {', '.join(missing)}")


def check_kinds(request: PendingRequest, decisions: Sequence[Decision]) -> None:
    """Check that nobody gives a result for a call that only a decision lets run.

    Raises:
        BadArgumentError: Somebody does.
    """
    results = {one.tool_call_id for one in decisions if isinstance(one, ToolReturnPart)}
    for call in request.calls:
        if call.kind == "approval" and call.id in results:
            raise BadArgumentError(f"{call.id} waits for a decision: answer it with approved, by run.resume")


async def answer(
    host: Host,
    caller: Caller,
    decisions: Sequence[Decision],
    *,
    agent_id: str,
    conversation_id: str,
    messages: tuple[InputMessage, ...] = (),
    request_config: JsonObject | None = None,
) -> Receipt:
    """Make the answer to what a conversation waits for durable; return the run that goes on with it.

    The same answer again, within 24 h, gets the first one's run, whether or not it is over. `messages`
    come after the results. The caller has checked who may address the conversation.

    Raises:
        WrongStateError: It is not the answer to all that waits, or something else was answered meanwhile.
        BadArgumentError, InvalidAnswerError: It is of another kind than what waits.
        As `AgentRef.tell`.
    """
    command = SendMessages(
        conversation_id=conversation_id,
        messages=messages,
        approvals=tuple(decisions),
        request_config={"run_type": "run_resume"} if request_config is None else request_config,
    )
    request_hash = inputs.hash_of(agent_id, command)
    with anyio.fail_after(ACCEPT_SECONDS):
        async with connection(host.pool) as conn:
            waiting = await pending.of_conversations(conn, [conversation_id])
            request = waiting.get(conversation_id)
            key = None if request is None else _key(request, decisions)
            if request is not None and key is not None:
                check_kinds(request, decisions)
            else:
                known = await inbox.recent(
                    conn, agent_id=agent_id, caller=caller.name, request_hash=request_hash, within=REMEMBERED
                )
                key = None if known is None else known[2]
        if key is None:
            check(request, decisions)
        assert key is not None, "an answer that names all that waits has a key"
        try:
            return await deliveries.tell(
                host, caller, command, agent_id=agent_id, key=key, request_hash=request_hash
            )
        except KeyReusedError as error:
            raise WrongStateError(f"these interrupts were answered otherwise by {error.run_id}") from None


def _key(request: PendingRequest, decisions: Sequence[Decision]) -> str | None:
    """Return the key under which an answer to this request is accepted once, None where it is no answer.

    Ids of calls are the model's, and may come again; the message that asks does not.
    """
    given = sorted(decision.tool_call_id for decision in decisions)
    if given != sorted(call.id for call in request.calls):
        return None
    return f"resume-{sha256(request.message_id.encode()).hexdigest()}"
