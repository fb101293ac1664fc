"""Cancels runs, whatever they are doing: under way, waiting their turn, or over with calls that ask."""

import asyncio
import logging
from contextlib import suppress
from functools import partial

import anyio

from actors import approvals, withdrawal
from actors.agent import Actor
from actors.commons import Commons
from actors.errors import DrainingError, LogTrimmedError, NothingToCancelError
from actors.mailbox import Waiting
from actors.population import Population
from actors.thread import Thread
from storage import inbox
from storage.errors import StorageError, UnavailableError
from storage.pool import connection, distrust

log = logging.getLogger("wakeful.host")

CANCEL_ACK = 0.1  # seconds a cancel waits for a run's end; then its cancellation is made durable by itself
DURABLE_DEADLINE = 3.0  # seconds that this may take, and a denial; then nothing is acknowledged


async def cancel(
    population: Population, agent_id: str, run_ids: tuple[str, ...] | None, *, conversation_id: str | None
) -> dict[str, str]:
    """Cancel runs; see `AgentRef.cancel`. What is acknowledged is durable, whatever happens to this process.

    Waits a moment for the runs' ends. What has not ended by then is noted beside its command: the turn goes
    on ending it, or the next activation does.
    """
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
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_cancel_all(population, actor, wanted))
            for thread in denied:
                group.create_task(_deny(actor, thread))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return dict.fromkeys(ended, "cancelled")


async def _cancel_all(population: Population, actor: Actor, run_ids: list[str]) -> None:
    commons = population.commons
    with anyio.move_on_after(CANCEL_ACK):
        async with asyncio.TaskGroup() as group:
            for run_id in run_ids:
                group.create_task(_cancel_one(population, actor, run_id))
    if left := [run_id for run_id in run_ids if commons.load.held(run_id)]:
        await note(commons, actor.agent.id, left)


async def note(commons: Commons, agent_id: str, run_ids: list[str]) -> None:
    """Make durable that runs are to end as cancelled.

    Raises:
        UnavailableError: The database did not answer.
        DrainingError: Another host may have read the agent's inbox before.
    """
    try:
        async with asyncio.timeout(DURABLE_DEADLINE), connection(commons.pool) as conn:
            await inbox.mark_cancelled(conn, agent_id, run_ids)
    except TimeoutError as error:
        await distrust(commons.pool)
        raise UnavailableError(f"no answer within {DURABLE_DEADLINE:g} s") from error
    commons.check_lease()


async def _deny(actor: Actor, thread: Thread) -> None:
    """Deny what a conversation waits for; return once that is committed.

    Raises:
        UnavailableError, FencedError, DrainingError
    """
    try:
        async with asyncio.timeout(DURABLE_DEADLINE):
            await actor.operate(thread, partial(withdrawal.deny, actor, thread, approvals.CANCELLED))
    except TimeoutError as error:
        raise UnavailableError(f"no denial within {DURABLE_DEADLINE:g} s") from error


async def _cancel_one(population: Population, actor: Actor, run_id: str) -> None:
    commons = population.commons
    where = commons.load.where(run_id)
    thread = actor.threads.get(where[1]) if where is not None else None
    if thread is None:
        return
    commons.load.cancel(run_id)  # where the activation ends before the run does, the next one ends it
    if thread.turn is not None and thread.turn.owns(run_id):
        thread.turn.cancel()
        with suppress(LogTrimmedError):  # it is over
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
    """Return the conversation if it waits for an answer to a request of one of these runs.

    One whose answer is being acted upon waits no longer.
    """
    thread = actor.threads.get(conversation_id)
    if thread is None or thread.pending is None or (thread.turn is not None and thread.turn.decisions):
        return None
    return thread if run_ids is None or thread.pending.run_id in run_ids else None
