"""Cancels runs, whatever they are doing: under way, waiting their turn, or over with calls that ask."""

import asyncio
import logging
from functools import partial

import anyio

from actors import approvals, withdrawal
from actors.agent import Actor
from actors.errors import DrainingError, NothingToCancelError
from actors.mailbox import Waiting
from actors.population import Population
from actors.thread import Thread
from storage.errors import StorageError

log = logging.getLogger("wakeful.host")

CANCEL_ACK = 0.15  # seconds a cancel waits for the run's end before it is acknowledged all the same


async def cancel(
    population: Population, agent_id: str, run_ids: tuple[str, ...] | None, *, conversation_id: str | None
) -> dict[str, str]:
    """Cancel runs; see `AgentRef.cancel`. Waits a moment for their end, then acknowledges."""
    commons = population.commons
    unfinished = commons.load.runs_of(agent_id, conversation_id)
    wanted = [run for run in unfinished if run_ids is None or run in run_ids]
    asking = [
        conversation
        for conversation, (agent, _) in commons.awaited.items()
        if agent == agent_id and conversation_id in (None, conversation)
    ]
    if not wanted and not asking:
        raise NothingToCancelError("No active runs to cancel")
    actor = await population.wake(agent_id)
    denied = [t for c in asking if (t := _waiting(actor, c, run_ids)) is not None]
    if not wanted and not denied:
        raise NothingToCancelError("No active runs to cancel")
    ended = [*wanted, *(t.pending.run_id for t in denied if t.pending is not None)]
    with anyio.move_on_after(CANCEL_ACK):
        async with asyncio.TaskGroup() as group:
            for run_id in wanted:
                group.create_task(_cancel_one(population, actor, run_id))
            for thread in denied:
                deny = partial(withdrawal.deny, actor, thread, approvals.CANCELLED)
                group.create_task(actor.operate(thread, deny))
    return dict.fromkeys(ended, "cancelled")


async def _cancel_one(population: Population, actor: Actor, run_id: str) -> None:
    commons = population.commons
    where = commons.load.where(run_id)
    thread = actor.threads.get(where[1]) if where is not None else None
    if thread is None:
        return
    commons.load.cancel(run_id)  # where the activation ends before the run does, the next one ends it
    if thread.turn is not None and thread.turn.owns(run_id):
        thread.turn.cancel()
        async for _ in thread.turn.channel.follow(run_id):
            pass
    elif (waiting := thread.remove(run_id)) is not None:
        # A child of the host: it ends in its own time, whether or not anybody waits for it.
        settling = commons.spawn(_settle, population, actor, thread, waiting)
        if settling is not None:
            await asyncio.wait((settling,))


async def _settle(population: Population, actor: Actor, thread: Thread, waiting: Waiting) -> None:
    try:
        await population.settle(actor, thread, waiting, stop_reason="cancelled")
    except (StorageError, DrainingError) as error:
        log.warning("queued run not cancelled", extra={"run_id": waiting.run_id, "reason": str(error)})


def _waiting(actor: Actor, conversation_id: str, run_ids: tuple[str, ...] | None) -> Thread | None:
    """Return the conversation if it waits for an answer to a request of one of these runs."""
    thread = actor.threads.get(conversation_id)
    if thread is None or thread.pending is None:
        return None
    return thread if run_ids is None or thread.pending.run_id in run_ids else None
