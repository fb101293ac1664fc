"""Ends what no turn will end: a request that is withdrawn, and the open step of a run that is given up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors import approvals, clock, openstep
from actors.commands import Decision
from actors.entries import tokens_of
from actors.events import ApprovalAnswered, MessageCommitted
from actors.thread import Thread
from actors.toolrun import Prepared
from storage.checkpoints import Checkpoint
from storage.extras import Extras
from storage.records import Message, Part, Role, ToolCall

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
    channel = actor.commons.logs.channel(thread.id)
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
