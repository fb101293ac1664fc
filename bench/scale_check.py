"""Checks the model of scaling: loads on this machine beside what the model says of them.

One load is small, so that messages and tokens come with pauses between them; the other keeps a host about as
busy as plans allow. No cost is fitted to either: the model adds costs that were measured apart.

The machine drifts, so the model's answer is given as it is and for the machine as fast as it is now: a fixed
piece of work is timed before and after the load, as it was between the cases that the costs are fitted to.
The fastest time of several counts: while the other thread of a core is busy that work takes half as long
again, and what a load causes of this is in its costs already. The model holds where that is within a third of
what was measured, both ways, at both loads. The error has a sign: above zero a plan has room to spare, below
zero it is short. Costs that were measured while something else ran are too high, and prove nothing.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench import measure, quiet, targets
from bench.load import Job, Loading, Slot
from bench.provider import Provider
from bench.readers import Readers
from bench.report import number
from bench.scaling import Costs, Demand, taken
from bench.targets import Wakeful

TOKENS, FIRST_S, GAP_S = 20, 0.5, 0.02
TURN_S = FIRST_S + TOKENS * GAP_S  # of the model, for one message
WARM_S, WINDOW_S = 2.0, 12.0
REST_S = 2.0  # before the work is timed: what the messages before put off is done then
TIMED, TIMED_EVERY_S = 10, 0.1
WITHIN = 1 / 3  # of what was measured, or of what was predicted, whichever is less


class Shape(Struct, frozen=True):
    """A load. Each agent has one message under way all the time, and its share of the watchers."""

    name: str
    agents: int
    watchers: int


SHAPES = (Shape("with pauses", 20, 40), Shape("busy", 60, 120))


class Load(Struct, frozen=True, kw_only=True):
    """What was measured over `seconds`: messages ended, and CPU seconds of server and database."""

    shape: Shape
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
        """How far the drifted prediction is above what was measured, as a share of that."""
        return self.drifted / self.measured - 1

    @property
    def holds(self) -> bool:
        """Whether the prediction is within `WITHIN` of what was measured."""
        lower, higher = sorted((self.drifted, self.measured))
        return higher <= lower * (1 + WITHIN)

    @property
    def verdict(self) -> str:
        """In words, with the direction where it does not hold."""
        if self.holds:
            return "pass"
        return "FAIL, plans too little" if self.error < 0 else "FAIL, plans too much"


class Check(Struct, frozen=True):
    """The load and both comparisons. `drift` is how much slower the machine is now than it was then."""

    demand: Demand
    load: Load
    drift: float
    compared: tuple[Compared, ...]


def check(costs: Costs, calibration_ms: Sequence[float], *, seconds: float = WINDOW_S) -> list[Check]:
    """Start this server with a database of its own, load it in each shape, and compare.

    `calibration_ms` are the times of the fixed piece of work when the costs were measured.
    """
    return [compare(costs, min(calibration_ms), measured) for measured in run(SHAPES, seconds)]


def demand_of(measured: Load) -> Demand:
    """The load that was measured, at the rate that was really sent."""
    return Demand(
        agents=measured.shape.agents,
        messages_per_second=measured.messages / measured.seconds,
        watchers=measured.shape.watchers,
        tokens_per_message=TOKENS,
        history=0,
        model_seconds=TURN_S,
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


def run(shapes: Sequence[Shape], seconds: float) -> list[Load]:
    """Put one load after another on a server, and account a stretch of each."""
    found: list[Load] = []
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="wakeful-scale-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        targets.make_home(home)
        provider = stack.enter_context(Provider(bodies=False))
        target = Wakeful(home / "ours", provider)
        stack.callback(target.stop)
        target.start()
        targets.warm(target)
        found += [_stream(target, shape, seconds) for shape in shapes]
    return found


def _stream(target: targets.Target, shape: Shape, seconds: float) -> Load:
    """Stream to each agent without a pause of its own, with watchers."""
    model = f"fixed-t{TOKENS}-d{FIRST_S * 1000:.0f}-g{GAP_S * 1000:.0f}"
    agents = targets.create_agents(target, shape.agents, model)
    slots = [
        Slot([target.message(agent, stream=True)], start_s=TURN_S * i / len(agents))
        for i, agent in enumerate(agents)
    ]
    with Readers() as readers:
        readers.open(target.port, [[f"conv:{agents[i % len(agents)]}"] for i in range(shape.watchers)])
        job = Job(port=target.port, slots=slots, seconds=WARM_S + seconds + 1)
        return _account(target, shape, job, seconds)


def _account(target: targets.Target, shape: Shape, job: Job, seconds: float) -> Load:
    before = _rest()
    loading = Loading(job)
    time.sleep(WARM_S)
    began_ns = time.monotonic_ns()
    with targets.spending(target) as spent:
        time.sleep(seconds)
    ended_ns = time.monotonic_ns()
    outcome = loading.finish()
    targets.check(outcome)
    return Load(
        shape=shape,
        seconds=(ended_ns - began_ns) / 1e9,
        messages=outcome.ended_within(began_ns, ended_ns),
        server=spent.server,
        postgres=spent.postgres,
        calibration_ms=(before + _rest()) / 2,
    )


def _rest() -> float:
    """Let the server do what it has put off; return the fixed piece of work, in ms, at its fastest."""
    time.sleep(REST_S)
    times: list[float] = []
    for _ in range(TIMED):
        times.append(measure.calibration_ms())
        time.sleep(TIMED_EVERY_S)
    return min(times)


def table(check: Check) -> Table:
    """The comparison for a terminal."""
    demand, rate = check.demand, number(check.demand.messages_per_second)
    shown = Table(
        title=f"{check.load.shape.name}: {check.load.seconds:.0f} s of {rate} messages/s of {TOKENS} tokens, "
        f"{demand.agents} agents, {demand.watchers} watchers; the machine takes {check.drift:.2f} times as "
        "long as for the figures"
    )
    shown.add_column("CPU seconds")
    for heading in ("predicted", "at today's speed", "measured", "error"):
        shown.add_column(heading, justify="right")
    shown.add_column(f"within {WITHIN:.0%}")
    for row in check.compared:
        figures = (row.predicted, row.drifted, row.measured)
        colour = "green" if row.holds else "red"
        shown.add_row(row.what, *map(number, figures), f"{row.error:+.0%}", f"[{colour}]{row.verdict}[/]")
    return shown


def sign() -> str:
    """What the sign of an error means, and how far it may be either way."""
    return (
        "An error above zero: the model says more than the load took, and a plan has room to spare. Below "
        f"zero a plan is short by so much. It passes from {1 / (1 + WITHIN) - 1:+.0%} to {WITHIN:+.0%}."
    )


def doubt(load_before: float, *, quick: bool) -> str:
    """Why the costs are none to judge the model by, empty where they are."""
    if load_before > quiet.LOAD:
        return f"the costs were measured at a load average of {load_before:.1f}, where they come out too high"
    return "the costs are those of a quick look" if quick else ""
