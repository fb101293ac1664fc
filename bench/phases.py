"""Reads where the time of a case's messages went: the phases of their runs, as the server timed them."""

import asyncio
import http.client
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

import msgspec
from msgspec import Struct

from bench import explain, relay
from bench.explain import DELIVERY, PHASES, Timed
from bench.plain import Plain
from bench.targets import Relay, Wakeful
from storage.errors import StorageError
from storage.pool import connect

SAMPLE = 24  # runs that are looked at, spread evenly over all

Split = dict[str, float]  # milliseconds by phase, and `runs`: of how many they are the median


class Made(Struct, frozen=True):
    """A run that ended."""

    agent_id: str
    id: str


_SINCE = """
select agent_id, id from runs where created_at >= $1 and completed_at is not null order by created_at, id
"""


def now() -> datetime:
    """The moment that `split` counts from: of the clock that the database has too."""
    return datetime.now(UTC)


def split(target: Wakeful, since: datetime, *, sample: int = SAMPLE) -> Split:
    """Return the median of each phase over runs that began since and have ended; empty where there are none.

    The phases of a run's steps add up. Runs whose events the server no longer keeps are left out.

    Raises:
        RuntimeError: The server or its database does not answer.
    """
    runs = [steps for steps in timed(target, since, sample=sample) if steps]
    if not runs:
        return {}
    phases = {
        name: median(sum(getattr(step, field) for step in steps) for steps in runs) / 1e6
        for name, field, _ in (*PHASES, DELIVERY)
    }
    return {name: took for name, took in phases.items() if took} | {"runs": len(runs)}


def of_relay(target: Relay) -> Split:
    """Return the median of each phase over the relay's messages since this was asked before, by our names.

    Sending the request is in the first token. Empty where there were none.

    Raises:
        RuntimeError: The relay does not answer.
    """
    try:
        with Plain(target.port) as client:
            told = msgspec.json.decode(client.get("/phases"), type=list[relay.Phases])
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(f"the relay does not say where time went: {error}") from error
    phases = {
        name: median(getattr(one, field) for one in told) / 1e6
        for name, field, _ in PHASES
        if told and hasattr(told[0], field)
    }
    return phases | {"runs": len(told)} if told else {}


def timed(target: Wakeful, since: datetime, *, sample: int) -> list[list[Timed]]:
    """Return the timed steps of runs that began since and have ended, of `sample` runs at most.

    Raises:
        RuntimeError: The server or its database does not answer.
    """
    try:
        runs = _spread(asyncio.run(_made(target.dsn, since)), sample)
        with Plain(target.port) as client:
            return [_steps(client, run) for run in runs]
    except (OSError, http.client.HTTPException, StorageError) as error:
        raise RuntimeError(f"the server does not say where time went: {error}") from error


async def _made(dsn: str, since: datetime) -> list[Made]:
    conn = await connect(dsn)
    try:
        return [Made(row["agent_id"], row["id"]) for row in await conn.fetch(_SINCE, since)]
    finally:
        await conn.close()


def _spread(runs: Sequence[Made], most: int) -> Sequence[Made]:
    """Choose so many of them, at equal distances."""
    if len(runs) <= most:
        return runs
    return [runs[place * len(runs) // most] for place in range(most)]


def _steps(client: Plain, run: Made) -> list[Timed]:
    try:
        events = client.get(f"/v1/agui/agents/{run.agent_id}/runs/{run.id}/events")
    except RuntimeError:
        return []  # its events are not kept any more
    return explain.timings(events.split(b"\n"))
