"""How long commits take under load and how many share one: of steps, and of commands that are accepted.

Beside them stands a bare commit of one row: what any server must wait for that stores what it acknowledges.
"""

import asyncio
import time
from datetime import datetime
from statistics import median

from bench import load, phases, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import Job, Slot
from bench.measure import percentile
from bench.targets import Wakeful
from storage.pool import connect

LEVELS = (1, 8, 32, 128)  # agents, each with one message under way
SAMPLE = 200  # runs whose timing is read


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Let so many agents answer at once, then read the timing of their runs and who was committed together.

    Steps that one transaction wrote have the same `xmin`: that is how many shared a commit, as the database
    itself has it. Commands that one statement accepted have runs that began at the same microsecond, which is
    that of its transaction; their rows are written again later, so that `xmin` says nothing of them.
    """
    figures: dict[str, float] = {"bare": asyncio.run(_bare(target.dsn, bench.effort.of(300, 60)))}
    seconds = bench.effort.of(3, 1)
    for level in LEVELS:
        bench.tell(f"checkpoint, {level} agents")
        agents = targets.create_agents(target, level)
        slots = [Slot([target.message(agent)]) for agent in agents]
        targets.check(load.run(Job(port=target.port, slots=slots)))
        since = phases.now()
        with targets.spending(target) as spent:
            outcome = load.run(Job(port=target.port, slots=slots, seconds=seconds))
        targets.check(outcome)
        timed = phases.timed(target, since, sample=SAMPLE)
        took = [step.checkpoint / 1e6 for run in timed for step in run]
        accepting = [run[0].accept / 1e6 for run in timed if run]
        figures |= {
            f"p50_{level}": percentile(took, 50),
            f"p99_{level}": percentile(took, 99),
            f"accept_p50_{level}": percentile(accepting, 50),
            f"accept_p99_{level}": percentile(accepting, 99),
            **_shared("", level, asyncio.run(_together(target.dsn, _STEPS, agents, since))),
            **_shared("accept_", level, asyncio.run(_together(target.dsn, _ACCEPTED, agents, since))),
            f"postgres_{level}": spent.postgres / len(outcome.timings) * 1e3,
            f"agents_{level}": level,
        }
    return figures


def _shared(prefix: str, level: int, together: list[int]) -> Figures:
    return {f"{prefix}batch_{level}": sum(together) / len(together), f"{prefix}most_{level}": max(together)}


_STEPS = """
select count(*) as many from steps
 where agent_id = any ($1) and created_at >= $2
 group by xmin::text
"""
_ACCEPTED = (
    "select count(*) as many from runs where agent_id = any ($1) and created_at >= $2 group by created_at"
)


async def _together(dsn: str, grouped: str, agents: list[str], since: datetime) -> list[int]:
    """How many rows each commit had."""
    conn = await connect(dsn)
    try:
        return [row["many"] for row in await conn.fetch(grouped, agents, since)]
    finally:
        await conn.close()


async def _bare(dsn: str, count: int) -> float:
    """The median of commits of one row each, one after another, in milliseconds."""
    conn = await connect(dsn)
    try:
        await conn.execute("create table if not exists bench_commits (id int)")
        times: list[float] = []
        for number in range(count):
            began = time.monotonic()
            await conn.execute("insert into bench_commits values ($1)", number)
            times.append((time.monotonic() - began) * 1e3)
        await conn.execute("drop table bench_commits")
    finally:
        await conn.close()
    return median(times)


def _rows(level: int) -> tuple[Row, ...]:
    agents = f"{level} agents" if level > 1 else "one agent"
    together = f"commands accepted in one statement, {agents}"
    all_of_them = f"agents_{level}"  # who has one message under way cannot have two in a commit
    return (
        Row(key=f"p50_{level}", title=f"checkpoint of a step, {agents}, p50", unit="ms", limit="bare"),
        Row(key=f"p99_{level}", title=f"checkpoint of a step, {agents}, p99", unit="ms", limit="bare"),
        Row(key=f"batch_{level}", title=f"steps in one commit, {agents}, mean", limit=all_of_them),
        Row(key=f"most_{level}", title=f"steps in one commit, {agents}, the most", limit=all_of_them),
        Row(key=f"accept_p50_{level}", title=f"accepting a command, {agents}, p50", unit="ms", limit="bare"),
        Row(key=f"accept_p99_{level}", title=f"accepting a command, {agents}, p99", unit="ms", limit="bare"),
        Row(key=f"accept_batch_{level}", title=f"{together}, mean", limit=all_of_them),
        Row(key=f"accept_most_{level}", title=f"{together}, the most", limit=all_of_them),
    )


CASE = Case(
    name="checkpoint",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=3,
    run_s={"ours": 20},
    rows=(
        Row(key="bare", title="a bare commit of one row, p50", unit="ms", reference=True),
        *(row for level in LEVELS for row in _rows(level)),
    ),
)
