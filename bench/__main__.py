"""Measures the server beside the relay: `python -m bench`. With `explain` it looks at one run instead."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import explain, html, measure, report, targets
from bench.case import Bench, Case, Effort, Figures
from bench.cases import CASES
from bench.provider import Provider
from bench.report import Report
from bench.targets import Relay, Target, Wakeful

KINDS = {"relay": Relay, "ours": Wakeful}
OUT = Path(__file__).parent / "out"

QUIET_LOAD = 0.5  # a load average above this before the start means that figures are too high

Measured = dict[str, dict[str, list[Figures]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases. Returns 1 if a row failed or could not be measured, else 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["explain"]:
        return explain.main(arguments[1:])
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.read is not None and args.html is None:
        parser.error("--read makes a page of a report: say where with --html")
    if args.read is not None:
        args.html.write_text(html.page(args.read.read_bytes()), encoding="utf-8")
        return 0
    cases = [case for case in CASES if not args.only or case.name in args.only]
    if unknown := set(args.only) - {case.name for case in CASES}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, _end)
    effort = Effort(runs=args.runs, quick=args.quick)
    names = [name for name in KINDS if name in args.targets]
    load_before = os.getloadavg()[0]
    began, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    measured, calibration, errors = _run(cases, names, effort)
    rows = [row for case in cases for row in report.judge(case, measured[case.name])]
    whole = Report(
        machine=measure.machine(),
        settings={"runs": effort.runs, "quick": effort.quick, "targets": names},
        started_at=started_at,
        seconds=time.monotonic() - began,
        load_before=load_before,
        calibration_ms=calibration,
        rows=rows,
        figures=measured,
        errors=errors,
    )
    path = args.out / f"bench-{started_at.replace(':', '')}.json"
    _show(whole, path)
    if args.html is not None:
        args.html.write_text(html.page(path.read_bytes()), encoding="utf-8")
    return int(bool(errors) or any(row.passed is False for row in rows))


def _end(signum: int, frame: object) -> None:  # noqa: ARG001 - the signature of a signal handler
    """Leave through the `finally`s, so that what was started here is ended."""
    sys.exit(128 + signum)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=2, help="alternating runs of each case (2)")
    parser.add_argument("--quick", action="store_true", help="measure for a shorter time: a look, no verdict")
    names = ", ".join(case.name for case in CASES)
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help=f"one of: {names}")
    parser.add_argument("--targets", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the JSON (bench/out)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots as well")
    parser.add_argument("--read", type=Path, metavar="JSON", help="make the page of an earlier run's JSON")
    return parser


def _run(
    cases: Sequence[Case], names: Sequence[str], effort: Effort
) -> tuple[Measured, list[float], list[str]]:
    """Start everything, run each case as often as asked with the targets taking turns, stop everything."""
    measured: Measured = {case.name: {} for case in cases}
    calibration: list[float] = []
    errors: list[str] = []
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="wakeful-bench-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        targets.make_home(home)
        provider = stack.enter_context(Provider(bodies=False))
        progress = stack.enter_context(_progress())
        task = progress.add_task("starting", total=sum(_runs(case, effort) for case in cases))
        ready: list[Target] = []
        for name in names:
            target = KINDS[name](home / name, provider)
            stack.callback(target.stop)
            target.start()
            targets.warm(target)
            ready.append(target)
        bench = Bench(provider, home, effort)
        for case in cases:
            broken: set[str] = set()
            for run in range(_runs(case, effort)):
                for target in ready:
                    if target.name not in case.on or target.name in broken:
                        continue
                    progress.update(task, description=f"{case.name} {run + 1}, {target.name}")
                    calibration.append(measure.calibration_ms())
                    try:
                        figures = case.measure(target, bench)
                    except Exception:  # noqa: BLE001 - a case that fails must not take the others' figures along
                        broken.add(target.name)
                        errors.append(f"{case.name} on {target.name}:\n{traceback.format_exc()}")
                    else:
                        measured[case.name].setdefault(target.name, []).append(figures)
                progress.advance(task)
    return measured, calibration, errors


def _runs(case: Case, effort: Effort) -> int:
    return effort.runs if case.most_runs is None else min(effort.runs, case.most_runs)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _show(whole: Report, path: Path) -> None:
    """Print the table and what went wrong, and write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1))
    console = Console(width=None if sys.stdout.isatty() else 150)
    machine = whole.machine
    console.print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, ", end="")
    console.print(f"Python {machine['python']}, commit {machine['commit']}")
    console.print(report.table(whole.rows))
    slow, fast = max(whole.calibration_ms, default=0), min(whole.calibration_ms, default=0)
    console.print(f"{whole.seconds:.0f} s; a fixed piece of work took {fast:.1f} to {slow:.1f} ms meanwhile")
    if whole.load_before > QUIET_LOAD:
        console.print(f"[yellow]load average before: {whole.load_before:.1f}; something else ran here[/]")
    for error in whole.errors:
        console.print(error, style="red", markup=False)
    console.print(f"JSON: {path}")


if __name__ == "__main__":
    sys.exit(main())
