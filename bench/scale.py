"""Answers what a load takes: hosts, memory and cores of the database, by the model fitted to measured costs.

python -m bench scale --agents 10000 --messages-per-second 50 --watchers 2000
python -m bench scale --agents … --messages-per-second … --from bench/out/….json
python -m bench scale --check       two loads on this machine beside what the model says of them
python -m bench scale --record      measures the costs that the tests read anew; on a quiet machine, minutes
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import costs, scale_check, scale_record
from bench.costs import FitError, Measured
from bench.report import number
from bench.scaling import HOT_SECONDS, Costs, Demand, Plan, ScalingError, plan

OUT = Path(__file__).parent / "out"
UTILISATION = 0.6
NOT_THERE = (
    "Several hosts do not exist in this release: one process owns all agents of a database. More than one "
    "host is what the costs allow, not what can be started today. Redis shards are left out: nothing here "
    "uses Redis, so that there is no cost of it to be measured."
)
ASSUMED = (
    "Assumed: each CPU busy {utilisation:.0%} of the time at most; a host is a process with one core for its "
    "event loop; messages go to agents at random, watchers follow one agent each, spread evenly; the model "
    "takes {model_s:g} s to answer; an agent leaves memory {hot:.0f} min after its last message. Not "
    "modelled: tools, embeddings, waking a passivated agent, memory and disk of Postgres, what commits of "
    "different hosts take from each other."
)


def main(arguments: Sequence[str]) -> int:
    """Print a plan, or check the model. Returns 1 where there is none, or the model does not hold."""
    parser = _parser()
    args = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        if args.record is not None:
            scale_record.record(args.record, tell=console.print, anyway=args.anyway)
            console.print(f"costs recorded: {args.record}; commit it", highlight=False)
            return 0
        path = args.source or newest(OUT)
        measured = costs.read(path.read_bytes())
        fitted = costs.fit(measured)
        console.print(_source(path, measured), highlight=False)
        if args.check:
            return _check(console, fitted, measured)
        if args.agents is None or args.messages_per_second is None:
            parser.error("say --agents and --messages-per-second, or --check")
        demand = _demand(args)
        console.print(table(plan(demand, fitted, utilisation=args.utilisation)))
    except (FitError, ScalingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    said = {"utilisation": args.utilisation, "model_s": demand.model_seconds, "hot": HOT_SECONDS / 60}
    console.print(ASSUMED.format(**said), style="dim", highlight=False)
    console.print(NOT_THERE, style="yellow", highlight=False)
    return 0


def _check(console: Console, fitted: Costs, measured: Measured) -> int:
    found = scale_check.check(fitted)
    for check in found:
        console.print(scale_check.table(check))
    console.print(scale_check.sign(), style="dim", highlight=False)
    if said := scale_check.doubt(measured.load_before, quick=measured.settings.quick):
        console.print(
            f"no verdict: {said}; `--record`, or `{costs.COMMAND}`, measures them anew", style="yellow"
        )
        return 0
    return int(not all(row.holds for check in found for row in check.compared))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--agents", type=_count, metavar="N", help="agents that there are")
    parser.add_argument("--messages-per-second", type=_rate, metavar="M", help="to all of them together")
    parser.add_argument("--watchers", type=_count, default=0, metavar="W", help="websockets (0)")
    parser.add_argument("--tokens-per-message", type=_rate, default=100, metavar="T", help="of answers (100)")
    parser.add_argument("--history", type=_rate, default=20, metavar="H", help="messages in the window (20)")
    parser.add_argument("--model-seconds", type=_rate, default=2.5, help="of an answer, whole (2.5)")
    parser.add_argument("--utilisation", type=_share, default=UTILISATION, help="of each CPU (0.6)")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="JSON", help="costs (newest in bench/out)"
    )
    parser.add_argument("--check", action="store_true", help="measure two loads beside the model's answers")
    parser.add_argument(
        "--record",
        nargs="?",
        type=Path,
        const=scale_record.RECORDED,
        metavar="JSON",
        help="measure the costs and write them there (tests/data/bench_costs.json)",
    )
    parser.add_argument("--anyway", action="store_true", help="record while something else runs, too")
    return parser


def newest(folder: Path) -> Path:
    """The newest JSON that has all figures.

    Raises:
        FitError: There is none.
    """
    for path in sorted(folder.glob("bench-*.json"), reverse=True):
        try:
            if not costs.lacks(costs.read(path.read_bytes())):
                return path
        except FitError:
            continue
    raise FitError(f"no JSON in {folder} has all costs; measure them with `{costs.COMMAND}`")


def table(plan: Plan) -> Table:
    """A plan for a terminal."""
    shown = Table(title="what holds this load", show_header=False)
    shown.add_column("what")
    shown.add_column("how much", justify="right")
    shown.add_column("why")
    each = plan.host_memory_bytes / (1 << 20)
    first = plan.bounds[0]
    why = f"{first.name} binds first"
    shown.add_row("hosts, of one core each", f"{plan.hosts:,}", why)
    shown.add_row("memory of each host", f"{number(each)} MiB", f"{number(plan.hot_agents)} agents in memory")
    shown.add_row("Postgres cores", f"{plan.postgres_cores:,}", _busy(plan.postgres_cpu, plan))
    shown.add_section()
    for bound in plan.bounds:
        limit = f"{number(bound.per_host)} {bound.unit} a host: {bound.hosts:,}"
        shown.add_row(bound.name, f"{number(bound.needed)} {bound.unit}", limit)
    shown.add_section()
    shown.add_row("server CPU, all hosts", f"{number(plan.server_cpu)} cores", "busy all the time")
    shown.add_row("messages to passivated agents", f"{number(plan.waking_per_second)} /s", "each wakes one")
    shown.add_row("watchers back after a restart", f"{number(plan.reconnect_seconds)} s", "all at once")
    return shown


def _busy(cores: float, plan: Plan) -> str:
    return f"{number(cores)} busy all the time, at {plan.utilisation:.0%}"


def _source(path: Path, measured: Measured) -> str:
    machine = measured.machine
    return (
        f"costs of {path.name}: {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"commit {machine['commit'][:12]}"
    )


def _demand(args: argparse.Namespace) -> Demand:
    return Demand(
        agents=args.agents,
        messages_per_second=args.messages_per_second,
        watchers=args.watchers,
        tokens_per_message=args.tokens_per_message,
        history=args.history,
        model_seconds=args.model_seconds,
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number from 0 up")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return value
