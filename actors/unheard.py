"""Tells the end of runs that nobody heard of: committed with a lost answer, or gone with their agent."""

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import telling
from actors.agent import Actor
from actors.channels import Channel
from actors.commons import Commons
from actors.events import MessageCommitted, RunFinished
from storage import messages, runs
from storage.errors import StorageError
from storage.pool import connection
from storage.records import Usage

if TYPE_CHECKING:
    from actors.population import Population

log = logging.getLogger("wakeful.host")


def end_all(commons: Commons, agent_id: str) -> None:
    """Take the runs of an agent that does not exist off the counts, and tell who follows them."""
    for run_id, channel in _unfinished(commons, agent_id):
        commons.load.finish(run_id)
        channel.publish(*telling.ending(RunFinished(run_id, "cancelled", "cancelled", Usage())))


def reconcile(population: "Population", actor: Actor, unfinished: Collection[str]) -> None:
    """Take runs off the counts that ended without our hearing of it, and tell who follows them."""
    commons = population.commons
    for run_id, channel in _unfinished(commons, actor.agent.id):
        if run_id not in unfinished:
            if channel.awaits(run_id):
                commons.spawn(_tell_end, population, run_id, channel)
            channel.expected.discard(run_id)
            commons.load.finish(run_id)


def _unfinished(commons: Commons, agent_id: str) -> list[tuple[str, Channel]]:
    """Return the runs of an agent that are counted as unfinished, each with the log that it is told on."""
    found: list[tuple[str, Channel]] = []
    for run_id in commons.load.runs_of(agent_id):
        where = commons.load.where(run_id)
        assert where is not None
        found.append((run_id, commons.logs.channel(where[1], agent_id)))
    return found


async def _tell_end(population: "Population", run_id: str, channel: Channel) -> None:
    """Publish what a run committed and how it ended, as the database has it."""
    try:
        async with connection(population.commons.pool) as conn:
            ended = await runs.end_of(conn, run_id)
            stored = await messages.whole_run(conn, run_id)
    except StorageError as error:
        log.warning("end of run not told", extra={"run_id": run_id, "reason": str(error)})
        return
    if ended is None:
        return
    actor = population.hot.get(channel.agent_id)
    thread = None if actor is None else actor.threads.get(channel.id)
    asking = None if thread is None else thread.pending
    finished = RunFinished(run_id, *ended)
    if asking is not None and asking.run_id == run_id:
        finished = replace(finished, interrupts=asking.calls, interrupts_expire_at=asking.expires_at)
    channel.publish(*(MessageCommitted(run_id, m) for m in stored), *telling.ending(finished))
