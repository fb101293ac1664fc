"""Checks the model of scaling: loads on this machine beside what the model says of them.

One load is small, so that messages and tokens come with pauses between them; the other keeps a host about as
busy as plans allow. No cost is fitted to either: the model adds costs that were measured apart.

The machine drifts: the same load takes half as much again from one minute to the next, and a fixed piece of
work that is timed beside it does not tell when: it took 1.37 times as long where a load took less.
So the loads take turns, and the median of the rounds counts. The model holds where that is within a third of
what was measured, both ways, at both loads. The error has a sign: above zero a plan has room to spare, below
zero it is short. Costs that were measured while something else ran are too high, and prove nothing.
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

from bench import quiet, stretch, targets
from bench.load import Job, Slot
from bench.provider import Provider
from bench.readers import Readers
from bench.report import number
from bench.scaling import Costs, Demand, taken
from bench.targets import Wakeful

TOKENS, FIRST_S, GAP_S = 20, 0.5, 0.02
TURN_S = FIRST_S + TOKENS * GAP_S  # of the model, for one message
WARM_S, WINDOW_S = 2.0, 12.0
ROUNDS = 3
REST_S = 2.0  # before a load: what the messages before put off is done then
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


class Compared(Struct, frozen=True):
    """CPU seconds that were predicted and measured, of each round."""

    what: str
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def errors(self) -> list[float]:
        """How far each prediction is above what was measured, as a share of that."""
        return [said / spent - 1 for said, spent in zip(self.predicted, self.measured, strict=True)]

    @property
    def error(self) -> float:
        """The median of them."""
        return median(self.errors)

    @property
    def holds(self) -> bool:
        """Whether the prediction is within `WITHIN` of what was measured."""
        return 1 / (1 + WITHIN) <= 1 + self.error <= 1 + WITHIN

    @property
    def verdict(self) -> str:
        """In words, with the direction where it does not hold."""
        if self.holds:
            return "pass"
        return "FAIL, plans too little" if self.error < 0 else "FAIL, plans too much"


class Check(Struct, frozen=True):
    """The rounds of one load, and both comparisons."""

    loads: tuple[Load, ...]
    compared: tuple[Compared, ...]

    @property
    def shape(self) -> Shape:
        """What all of them have."""
        return self.loads[0].shape


def check(costs: Costs, *, rounds: int = ROUNDS, seconds: float = WINDOW_S) -> list[Check]:
    """Start this server with a database of its own, load it in each shape in turns, and compare."""
    found = run(SHAPES * rounds, seconds)
    return [compare(costs, [one for one in found if one.shape == shape]) for shape in SHAPES]


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


def compare(costs: Costs, loads: Sequence[Load]) -> Check:
    """Set the model's answers beside what was measured, round by round."""
    answers = [taken(demand_of(load), costs, hosts=1) for load in loads]
    server = tuple(answer.server * load.seconds for answer, load in zip(answers, loads, strict=True))
    postgres = tuple(answer.postgres * load.seconds for answer, load in zip(answers, loads, strict=True))
    compared = (
        Compared("server", server, tuple(load.server for load in loads)),
        Compared("Postgres", postgres, tuple(load.postgres for load in loads)),
    )
    return Check(tuple(loads), compared)


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
        time.sleep(REST_S)
        found = stretch.account(target, job, after=WARM_S, seconds=seconds)
    return Load(
        shape=shape,
        seconds=found.seconds,
        messages=found.messages,
        server=found.server,
        postgres=found.postgres,
    )


def table(check: Check) -> Table:
    """The comparison for a terminal."""
    rate = number(median(load.messages / load.seconds for load in check.loads))
    shown = Table(
        title=f"{check.shape.name}: {rate} messages/s of {TOKENS} tokens, {check.shape.agents} agents, "
        f"{check.shape.watchers} watchers; medians of {len(check.loads)} rounds of "
        f"{check.loads[0].seconds:.0f} s"
    )
    shown.add_column("CPU seconds")
    for heading in ("predicted", "measured", "error", "of the rounds"):
        shown.add_column(heading, justify="right")
    shown.add_column(f"within {WITHIN:.0%}")
    for row in check.compared:
        said, spent = number(median(row.predicted)), number(median(row.measured))
        span = f"{min(row.errors):+.0%} to {max(row.errors):+.0%}"
        colour = "green" if row.holds else "red"
        shown.add_row(row.what, said, spent, f"{row.error:+.0%}", span, f"[{colour}]{row.verdict}[/]")
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
