"""Ends what no turn will end: a request that is withdrawn, and the open step of a run that is given up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import approvals, clock, openstep, queueing, reading, telling
from actors.commands import Decision
from actors.entries import inputs_of, tokens_of
from actors.errors import DrainingError
from actors.events import ApprovalAnswered, MessageCommitted, RunFinished
from actors.mailbox import Waiting
from actors.thread import Thread
from actors.toolrun import Prepared
from storage.checkpoints import Checkpoint, InboxUpdate, RunUpdate
from storage.extras import Extras
from storage.records import Message, Part, Role, RunError, RunStatus, StopReason, ToolCall

if TYPE_CHECKING:
    from actors.agent import Actor

NOT_RUN = "interrupted: the request was withdrawn before this call ran"


async def deny(actor: "Actor", thread: Thread, reason: str) -> None:
    """Deny whatever the conversation waits for; no model hears of it before its next turn.

    Called between turns (`Actor.operate`). Shielded by its caller's task, never half told.

    Raises:
        FencedError, UnavailableError
    """
    async with actor.commit_turn:
        request = thread.pending
        if request is None:
            return
        decisions = approvals.denials(request, reason)
        messages, calls = closing(
            actor, thread, decisions=decisions, run_id=request.run_id, position=thread.end_position
        )
        await actor.commons.checkpoints.submit(
            Checkpoint(
                id=clock.new_id("ckpt"),
                agent_id=actor.agent.id,
                fence=actor.agent.fence,
                version=actor.version,
                messages=tuple(messages),
                tool_calls=tuple(calls),
                windows=(thread.window_until(thread.end_position + len(messages)),),
                extras=Extras(answered=thread.id),
            )
        )
        actor.version += 1
        thread.append(messages)
        actor.awaits(thread, None)
    channel = actor.commons.logs.channel(thread.id, actor.agent.id)
    channel.publish(
        *(MessageCommitted(request.run_id, m) for m in messages),
        ApprovalAnswered(request.run_id, request.message_id, decisions),
    )


def closing(
    actor: "Actor", thread: Thread, *, decisions: Sequence[Decision] = (), run_id: str, position: int
) -> tuple[list[Message], list[ToolCall]]:
    """Return the messages that close the conversation's open step, and how its intended calls ended.

    Nothing is run: a call that may have run in an earlier life has a result that says so.
    """
    opened = thread.open
    if opened is None or opened.step_id is None:
        return [], []
    tools = actor.toolbox.tools
    prepared = openstep.prepare(opened, decisions, tools, policy=actor.policy, intended=actor.intended)
    ended: list[Prepared] = [p.stopped(NOT_RUN) for p in prepared]
    results = tuple(p.result for p in ended if p.result is not None)
    rows: list[tuple[Role, tuple[Part, ...]]] = [("tool", results)]
    if decisions:
        rows.insert(0, ("approval", tuple(decisions)))
    messages = [
        _row(actor, thread, role, parts, position + i, run_id=run_id, step_id=opened.step_id)
        for i, (role, parts) in enumerate(rows)
    ]
    calls = openstep.records(ended, agent_id=actor.agent.id, step_id=opened.step_id, intended=actor.intended)
    return messages, calls


def _row(
    actor: "Actor",
    thread: Thread,
    role: Role,
    parts: tuple[Part, ...],
    position: int,
    *,
    run_id: str,
    step_id: str,
) -> Message:
    return Message(
        id=clock.new_id("message"),
        organization_id=actor.agent.organization_id,
        agent_id=actor.agent.id,
        conversation_id=thread.id,
        position=position,
        role=role,
        content=parts,
        created_at=clock.now(),
        run_id=run_id,
        step_id=step_id,
        tokens=tokens_of(parts, actor.commons.counter.count),
        interrupted=role == "tool",
    )


async def end(
    actor: "Actor",
    thread: Thread,
    waiting: Waiting,
    *,
    stop_reason: StopReason,
    error: RunError | None,
    state: str,
) -> None:
    """Commit the end of a command that no turn handles, and say so.

    Its input is stored, excluded from what models see, if no step stored it before; calls of a step that
    it had begun get their results.

    Raises:
        StorageError, DrainingError
    """
    actor.population.heads.drop(waiting.run_id)
    status: RunStatus = "cancelled" if stop_reason == "cancelled" else "failed"
    run = RunUpdate(
        id=waiting.run_id,
        status=status,
        usage=waiting.usage,
        stop_reason=stop_reason,
        error=error,
        completed_at=clock.now(),
    )
    async with actor.commit_turn:
        if actor.dead:  # the next activation has found the command
            raise DrainingError("the agent is being restarted")
        unread: list[Message] = []
        calls: list[ToolCall] = []
        if waiting.applied and actor.intended:
            if not thread.loaded:
                await reading.load(actor, thread, ending=True)
            if thread.pending is None:
                unread, calls = closing(actor, thread, run_id=waiting.run_id, position=thread.end_position)
        if not waiting.applied:
            stored = inputs_of(
                actor.agent,
                waiting.command,
                thread.end_position,
                run_id=waiting.run_id,
                count=actor.commons.counter.count,
            )
            unread = [replace(m, excluded=True) for m in stored]
        end = thread.end_position + len(unread)
        checkpoint = Checkpoint(
            id=clock.new_id("ckpt"),
            agent_id=actor.agent.id,
            fence=actor.agent.fence,
            version=actor.version,
            messages=tuple(unread),
            runs=(run,),
            inbox=(InboxUpdate(seq=waiting.seq, state=state),),
            tool_calls=tuple(calls),
            windows=(thread.window_until(end),),
        )
        await actor.commons.checkpoints.submit(checkpoint)
        actor.version += 1
        thread.append(unread)
    actor.known.discard(waiting.seq)
    actor.commons.finished_run(waiting, status)
    finished = RunFinished(waiting.run_id, status, stop_reason, waiting.usage, error)
    channel = actor.commons.logs.channel(thread.id, actor.agent.id)
    channel.publish(*queueing.left(thread, waiting.run_id, "withdrawn"), *telling.ending(finished))
