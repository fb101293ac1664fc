"""Checks the model of scaling: a load on this machine beside what the model says of it.

The load keeps a host about as busy as plans allow. A message that comes after a pause finds caches cold and
costs more: with a third of this load, the model says a quarter to two fifths too little.

The machine drifts, so the model's answer is given as it is and for the machine as fast as it is now: a fixed
piece of work is timed beside the load, as it was beside the figures that the costs are fitted to. The model
holds where that is within a third of what was measured, both ways: it adds costs that were measured apart.
Costs that were measured while something else ran are too high, and prove nothing.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from msgspec import Struct
from rich.table import Table

from bench import load, measure, quiet, targets
from bench.load import Job, Loading, Slot
from bench.provider import Provider
from bench.readers import Readers
from bench.report import number
from bench.scaling import Costs, Demand, taken
from bench.targets import Wakeful

STREAMS = 60  # agents, each with one message under way all the time
WATCHERS = 120  # two for each agent
TOKENS, FIRST_S, GAP_S = 20, 0.5, 0.02
WARM_S, WINDOW_S = 2.0, 12.0
TIMED_EVERY_S = 1.0
WITHIN = 1 / 3  # of what was measured, or of what was predicted, whichever is less


class Load(Struct, frozen=True):
    """What was measured over `seconds`: messages ended, and CPU seconds of server and database."""

    seconds: float
    messages: int
    server: float
    postgres: float
    calibration_ms: float


class Compared(Struct, frozen=True):
    """Measured CPU seconds beside predicted ones; `drifted` is predicted for the machine as it is now."""

    what: str
    predicted: float
    drifted: float
    measured: float

    @property
    def error(self) -> float:
        """How far the drifted prediction is from what was measured, as a share of that."""
        return self.drifted / self.measured - 1

    @property
    def holds(self) -> bool:
        """Whether the prediction is within `WITHIN` of what was measured."""
        lower, higher = sorted((self.drifted, self.measured))
        return higher <= lower * (1 + WITHIN)


class Check(Struct, frozen=True):
    """The load and both comparisons. `drift` is how much slower the machine is now than it was then."""

    demand: Demand
    load: Load
    drift: float
    compared: tuple[Compared, ...]


def check(costs: Costs, calibration_ms: Sequence[float], *, seconds: float = WINDOW_S) -> Check:
    """Start this server with a database of its own, load it, and compare."""
    measured = run(seconds)
    return compare(costs, median(calibration_ms), measured)


def demand_of(measured: Load) -> Demand:
    """The load that was measured, at the rate that was really sent."""
    return Demand(
        agents=STREAMS,
        messages_per_second=measured.messages / measured.seconds,
        watchers=WATCHERS,
        tokens_per_message=TOKENS,
        history=0,
        model_seconds=FIRST_S + TOKENS * GAP_S,
    )


def compare(costs: Costs, calibration_ms: float, measured: Load) -> Check:
    """Set the model's answer beside what was measured; `calibration_ms` is of the time of the costs."""
    demand = demand_of(measured)
    rates = taken(demand, costs, hosts=1)
    drift = measured.calibration_ms / calibration_ms
    pairs = (("server", rates.server, measured.server), ("Postgres", rates.postgres, measured.postgres))
    compared = [
        Compared(what, rate * measured.seconds, rate * measured.seconds * drift, spent)
        for what, rate, spent in pairs
    ]
    return Check(demand, measured, drift, tuple(compared))


def run(seconds: float) -> Load:
    """Stream to each agent without a pause, with watchers, and account a stretch of it."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="wakeful-scale-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        targets.make_home(home)
        provider = stack.enter_context(Provider(bodies=False))
        target = Wakeful(home / "ours", provider)
        stack.callback(target.stop)
        target.start()
        targets.warm(target)
        model = f"fixed-t{TOKENS}-d{FIRST_S * 1000:.0f}-g{GAP_S * 1000:.0f}"
        agents = targets.create_agents(target, STREAMS, model)
        readers = stack.enter_context(Readers())
        readers.open(target.port, [[f"conv:{agents[i % STREAMS]}"] for i in range(WATCHERS)])
        turn_s = FIRST_S + TOKENS * GAP_S
        slots = [
            Slot([target.message(agent, stream=True)], start_s=turn_s * i / STREAMS)
            for i, agent in enumerate(agents)
        ]
        return _account(target, Job(port=target.port, slots=slots, seconds=WARM_S + seconds + 1), seconds)


def _account(target: targets.Target, job: Job, seconds: float) -> Load:
    loading = Loading(job)
    time.sleep(WARM_S)
    calibrations: list[float] = []
    began_ns = time.monotonic_ns()
    with targets.spending(target) as spent:
        while (left_s := seconds - (time.monotonic_ns() - began_ns) / 1e9) > 0:
            time.sleep(min(TIMED_EVERY_S, left_s))
            calibrations.append(measure.calibration_ms())
    ended_ns = time.monotonic_ns()
    outcome = loading.finish()
    targets.check(outcome)
    return Load(
        seconds=(ended_ns - began_ns) / 1e9,
        messages=_ended(outcome, began_ns, ended_ns),
        server=spent.server,
        postgres=spent.postgres,
        calibration_ms=median(calibrations),
    )


def _ended(outcome: load.Outcome, began_ns: int, ended_ns: int) -> int:
    return sum(began_ns <= timing.ended_ns < ended_ns for timing in outcome.timings)


def table(check: Check) -> Table:
    """The comparison for a terminal."""
    demand, rate = check.demand, number(check.demand.messages_per_second)
    shown = Table(
        title=f"{check.load.seconds:.0f} s of {rate} messages/s of {TOKENS} tokens, {demand.agents} agents, "
        f"{demand.watchers} watchers; the machine takes {check.drift:.2f} times as long as for the figures"
    )
    shown.add_column("CPU seconds")
    for heading in ("predicted", "at today's speed", "measured", "error"):
        shown.add_column(heading, justify="right")
    shown.add_column(f"within {WITHIN:.0%}")
    for row in check.compared:
        verdict = "[green]pass[/]" if row.holds else "[red]FAIL[/]"
        figures = (row.predicted, row.drifted, row.measured)
        shown.add_row(row.what, *map(number, figures), f"{row.error:+.0%}", verdict)
    return shown


def doubt(load_before: float, *, quick: bool) -> str:
    """Why the costs are none to judge the model by, empty where they are."""
    if load_before > quiet.LOAD:
        return f"the costs were measured at a load average of {load_before:.1f}, where they come out too high"
    return "the costs are those of a quick look" if quick else ""
