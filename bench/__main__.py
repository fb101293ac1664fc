"""Measures the server beside the relay: `python -m bench`. Commands besides: explain, guard, scale."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bench import (
    budget,
    guard,
    html,
    level_report,
    measure,
    profiling,
    quiet,
    report,
    scale,
    shortfall,
    sitting,
)
from bench.case import Effort
from bench.cases import CASES
from bench.foreign import SYNTAX, Address, Foreign, address
from bench.levels import unanswered
from bench.report import Report
from bench.sitting import KINDS, Found, Plan

COMMANDS = {"explain": shortfall.main, "guard": guard.main, "scale": scale.main}
OUT = Path(__file__).parent / "out"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases. Returns 1 if a row failed or could not be measured, else 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        signal.signal(signal.SIGTERM, _end)
        return COMMANDS[arguments[0]](arguments[1:])
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.read is not None and args.html is None:
        parser.error("--read makes a page of a report: say where with --html")
    if args.read is not None:
        args.html.write_text(html.page(args.read.read_bytes()), encoding="utf-8")
        return 0
    cases = [c for c in CASES if (c.name in args.only if args.only else args.suite in (c.suite, "all"))]
    if unknown := set(args.only) - {case.name for case in CASES}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if args.profile and not args.only:
        parser.error("--profile records single cases: say which with --only")
    signal.signal(signal.SIGTERM, _end)
    names = ["ours"] if args.profile else [name for name in KINDS if name in args.targets]
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    path = args.out / f"bench-{started_at.replace(':', '')}.json"
    plan = Plan(
        cases=cases,
        names=[name for name in names if any(name in case.on for case in cases)],
        effort=Effort(runs=1 if args.profile else args.runs, quick=args.quick),
        profiles={c.name: path.with_name(f"{path.stem}-{c.name}.svg") for c in cases if args.profile},
        foreign=[Foreign(at) for at in args.target],
        provider_port=args.provider_port,
    )
    if said := budget.words(cases, plan.effort, plan.names):
        Console(stderr=True).print(said, style="dim", highlight=False)
    load_before, began = os.getloadavg()[0], time.monotonic()
    found = sitting.run(plan)
    whole = _report(plan, found, started_at, seconds=time.monotonic() - began, load_before=load_before)
    _show(whole, path)
    for recorded in plan.profiles.values():
        profiling.show(recorded)
    if args.html is not None:
        args.html.write_text(html.page(path.read_bytes()), encoding="utf-8")
    return int(bool(whole.errors) or any(row.passed is False for row in whole.rows))


def _report(plan: Plan, found: Found, started_at: str, *, seconds: float, load_before: float) -> Report:
    effort = plan.effort
    return Report(
        machine=measure.machine(),
        settings={
            "runs": effort.runs,
            "quick": effort.quick,
            "targets": plan.names,
            "profile": bool(plan.profiles),
        },
        started_at=started_at,
        seconds=seconds,
        load_before=load_before,
        calibration_ms=found.calibration_ms,
        rows=[row for case in plan.cases for row in report.judge(case, found.measured[case.name])],
        figures=found.measured,
        errors=found.errors + unanswered(found.levels),
        levels=found.levels,
        phases=found.splits["ours"],
        relay_phases=found.splits["relay"],
        notes=found.notes,
        taken=found.taken,
    )


def _end(signum: int, frame: object) -> None:  # noqa: ARG001 - the signature of a signal handler
    """Leave through the `finally`s, so that what was started here is ended."""
    sys.exit(128 + signum)


def _address(text: str) -> Address:
    """Read a target of the command line, as argparse wants its errors."""
    try:
        return address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each case (5)")
    parser.add_argument("--quick", action="store_true", help="measure for a shorter time: a look, no verdict")
    names = ", ".join(case.name for case in CASES)
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help=f"one of: {names}")
    parser.add_argument(
        "--suite", choices=("table", "load", "parts", "all"), default="table", help="which cases (table)"
    )
    parser.add_argument("--targets", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        type=_address,
        metavar="KIND=URL",
        help=f"load on anyone's server as well: {SYNTAX}; may be repeated",
    )
    parser.add_argument(
        "--provider-port", type=int, default=0, help="where other servers find the scripted provider (any)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the JSON (bench/out)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots as well")
    parser.add_argument("--profile", action="store_true", help="record this server in each case of --only")
    parser.add_argument("--read", type=Path, metavar="JSON", help="make the page of an earlier run's JSON")
    return parser


def _show(whole: Report, path: Path) -> None:
    """Print the table and what went wrong, and write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1))
    console = Console(width=None if sys.stdout.isatty() else 150)
    machine = whole.machine
    console.print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, ", end="")
    console.print(f"Python {machine['python']}, commit {machine['commit']}")
    if (rows := report.table(whole.rows)).row_count:  # none where only other servers were asked
        console.print(rows)
    for line in shortfall.lines(whole):
        console.print(line, style="dim", markup=False, highlight=False)
    for table in level_report.tables(whole.levels):
        console.print(table)
    console.print(budget.table(whole.taken))
    slow, fast = max(whole.calibration_ms, default=0), min(whole.calibration_ms, default=0)
    console.print(f"{whole.seconds:.0f} s; a fixed piece of work took {fast:.1f} to {slow:.1f} ms meanwhile")
    if whole.load_before > quiet.LOAD:
        console.print(f"[yellow]load average before: {whole.load_before:.1f}; something else ran here[/]")
    for note in whole.notes:
        console.print(f"not measured: {note}", style="yellow", markup=False)
    for error in whole.errors:
        console.print(error, style="red", markup=False)
    console.print(f"JSON: {path}")


if __name__ == "__main__":
    sys.exit(main())
