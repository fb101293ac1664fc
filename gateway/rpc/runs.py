"""Methods of runs: cancel, steer, resume them."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from actors.commands import SendMessages
from actors.errors import NothingToCancelError
from gateway import interrupts
from gateway.auth import SEND
from gateway.errors import WrongStateError
from gateway.interrupts import Resume
from gateway.rpc import messages as rpc_messages
from gateway.rpc.messages import ClientMessageId, MessageData
from gateway.rpc.method import (
    Accepted,
    AppliedThrough,
    Call,
    Method,
    accepted,
    applied_through,
    conversation,
    run_id,
)
from storage import runs
from storage.errors import NotFoundError
from storage.pool import connection
from storage.records import Run

FINISHED = "run already finished"


class CancelData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The run to end. What it said so far stays in the history."""

    run: str


class Cancelled(Struct, frozen=True, kw_only=True, rename="camel"):
    """The run ends; its last event says so."""

    accepted: Literal[True]
    run: str
    applied_through: AppliedThrough | UnsetType = UNSET


class SteerData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Messages that join a run at its next step. `clientMessageId` makes the call repeatable for 24 hours."""

    run: str
    messages: tuple[MessageData, ...]
    client_message_id: ClientMessageId | None = None


class ResumeData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers to all open interrupts of a conversation: its id, or an agent's for its own."""

    resume: tuple[Resume, ...]
    agent: str | None = None
    conversation: str | None = None


async def cancel(call: Call, data: CancelData) -> Cancelled:
    """End a run that waits, is under way, or asked for an approval."""
    run = await _run(call, data.run)
    try:
        await call.host.ref(run.agent_id).cancel((run.id,), conversation_id=run.conversation_id)
    except NothingToCancelError:
        if (await _run(call, run.id)).completed_at is None:
            raise  # between two hosts, or between acceptance and its acknowledgement: try again
        raise WrongStateError(FINISHED) from None
    return Cancelled(accepted=True, run=run.id, applied_through=applied_through(call, run.conversation_id))


async def steer(call: Call, data: SteerData) -> Accepted:
    """Let messages join the run that is under way."""
    run = await _run(call, data.run)
    command = SendMessages(
        conversation_id=run.conversation_id,
        messages=rpc_messages.read(data.messages),
        when_busy="steer",
        steer_run=run.id,
        background=True,
        request_config={"run_type": "run_steer"},
    )
    return await rpc_messages.tell(
        call, command, agent_id=run.agent_id, client_message_id=data.client_message_id
    )


async def resume(call: Call, data: ResumeData) -> Accepted:
    """Answer all open interrupts of a conversation at once; the agent goes on with them."""
    where = await conversation(call, data.agent, data.conversation)
    receipt = await interrupts.answer(
        call.host,
        call.caller,
        interrupts.decisions_of(data.resume),
        agent_id=where.agent_id,
        conversation_id=where.id,
    )
    return await accepted(call, receipt)


async def _run(call: Call, given: str) -> Run:
    wanted = run_id(given)
    async with connection(call.host.pool) as conn:
        found = await runs.get(conn, wanted, organization_id=call.caller.organization_id)
    if call.caller.agents is not None and found.agent_id not in call.caller.agents:
        raise NotFoundError("run", wanted)
    return found


METHODS: tuple[Method, ...] = (
    Method(
        name="run.cancel",
        data=CancelData,
        answer=Cancelled,
        scope=SEND,
        run=cancel,
        summary="End a run",
        errors=("404: no such run", "409: run already finished"),
    ),
    Method(
        name="run.steer",
        data=SteerData,
        answer=Accepted,
        scope=SEND,
        run=steer,
        summary="Let messages join a run at its next step",
        errors=(
            "404: no such run",
            "409: run already finished, or it has not begun",
            "409: the same `clientMessageId` came with other messages",
        ),
    ),
    Method(
        name="run.resume",
        data=ResumeData,
        answer=Accepted,
        scope=SEND,
        run=resume,
        summary="Answer all open interrupts of a conversation",
        errors=(
            "400: an answer is of another kind than what waits",
            "404: no such agent or conversation",
            "409: an open interrupt has no answer, or nothing waits for one; the text names them",
        ),
    ),
)
