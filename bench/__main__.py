"""Measures the server beside the relay: `python -m bench`. Commands besides: explain, guard, scale."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import (
    guard,
    html,
    level_report,
    measure,
    phases,
    profiling,
    report,
    scale,
    shortfall,
    targets,
)
from bench.case import Bench, Case, Effort, Figures
from bench.cases import CASES
from bench.foreign import SYNTAX, Address, Foreign, RefusedError, address
from bench.levels import Level, unanswered
from bench.loaded import Floor, Loaded
from bench.provider import Provider
from bench.report import Report
from bench.targets import Relay, Target, Wakeful

OWN = {"relay": Relay, "ours": Wakeful}
KINDS = (Floor.name, *OWN)
COMMANDS = {"explain": shortfall.main, "guard": guard.main, "scale": scale.main}
OUT = Path(__file__).parent / "out"

QUIET_LOAD = 0.5  # a load average above this before the start means that figures are too high

Splits = dict[str, dict[str, list[phases.Split]]]  # by target and case
Measured = dict[str, dict[str, list[Figures]]]


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
    effort = Effort(runs=1 if args.profile else args.runs, quick=args.quick)
    names = ["ours"] if args.profile else [name for name in KINDS if name in args.targets]
    names = [name for name in names if any(name in case.on for case in cases)]
    foreign = [Foreign(at) for at in args.target]
    levels: list[Level] = []
    splits: Splits = {"ours": {}, "relay": {}}
    notes: list[str] = []
    load_before = os.getloadavg()[0]
    began, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    path = args.out / f"bench-{started_at.replace(':', '')}.json"
    profiles = {case.name: path.with_name(f"{path.stem}-{case.name}.svg") for case in cases if args.profile}
    measured, calibration, errors = _run(
        cases,
        names,
        effort,
        profiles,
        foreign=foreign,
        port=args.provider_port,
        levels=levels,
        splits=splits,
        notes=notes,
    )
    errors += unanswered(levels)
    rows = [row for case in cases for row in report.judge(case, measured[case.name])]
    whole = Report(
        machine=measure.machine(),
        settings={"runs": effort.runs, "quick": effort.quick, "targets": names, "profile": args.profile},
        started_at=started_at,
        seconds=time.monotonic() - began,
        load_before=load_before,
        calibration_ms=calibration,
        rows=rows,
        figures=measured,
        errors=errors,
        levels=levels,
        phases=splits["ours"],
        relay_phases=splits["relay"],
        notes=notes,
    )
    _show(whole, path)
    for recorded in profiles.values():
        profiling.show(recorded)
    if args.html is not None:
        args.html.write_text(html.page(path.read_bytes()), encoding="utf-8")
    return int(bool(errors) or any(row.passed is False for row in rows))


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
    parser.add_argument("--runs", type=int, default=2, help="alternating runs of each case (2)")
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


def _run(
    cases: Sequence[Case],
    names: Sequence[str],
    effort: Effort,
    profiles: Mapping[str, Path],
    *,
    foreign: Sequence[Foreign],
    port: int,
    levels: list[Level],
    splits: Splits,
    notes: list[str],
) -> tuple[Measured, list[float], list[str]]:
    """Start everything, run each case as often as asked with the targets taking turns, stop everything.

    A case of `profiles` is recorded there. What the load suite finds is appended to `levels`, to `splits`
    where the time of the messages to this server and to the relay went, and to `notes` what could not be
    measured.
    """
    measured: Measured = {case.name: {} for case in cases}
    calibration: list[float] = []
    errors: list[str] = []
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="wakeful-bench-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        targets.make_home(home)
        provider = stack.enter_context(Provider(bodies=False, port=port))
        progress = stack.enter_context(_progress())
        task = progress.add_task("starting", total=sum(_runs(case, effort) for case in cases))
        ready: list[Target | Loaded] = []
        for name in names:
            if name == Floor.name:
                ready.append(Floor(provider))
                continue
            target = OWN[name](home / name, provider)
            stack.callback(target.stop)
            target.start()
            targets.warm(target)
            ready.append(target)
        for server in foreign:
            stack.callback(_leave, server, errors)
            ready.append(server)
        bench = Bench(provider, home, effort)
        bench.levels, bench.notes = levels, notes
        bench.tell = lambda text: progress.update(task, description=text)
        for case in cases:
            broken: set[str] = set()
            for run in range(_runs(case, effort)):
                for target in ready:
                    if not _takes(case, target) or target.name in broken:
                        continue
                    progress.update(task, description=f"{case.name} {run + 1}, {target.name}")
                    calibration.append(measure.calibration_ms())
                    since = phases.now()
                    try:
                        if isinstance(target, Relay):
                            phases.of_relay(target)  # those of other cases are forgotten
                        if case.name in profiles and target.name == Wakeful.name:
                            figures = profiling.measure(case, target, bench, path=profiles[case.name])
                        else:
                            figures = case.measure(target, bench)
                    except profiling.ProfileError as error:
                        errors.append(f"{case.name} was not recorded: {error}")
                    except Exception:  # noqa: BLE001 - a case that fails must not take the others' figures along
                        broken.add(target.name)
                        errors.append(f"{case.name} on {target.name}:\n{traceback.format_exc()}")
                    else:
                        measured[case.name].setdefault(target.name, []).append(figures)
                        _split(target, since, splits, case.name, errors)
                progress.advance(task)
    return measured, calibration, errors


def _leave(server: Foreign, errors: list[str]) -> None:
    """Delete what was made on anyone's server; one that is gone takes no figures along."""
    try:
        server.stop()
    except RefusedError as error:
        errors.append(f"agents may be left on {server.name}: {error}")


def _split(target: Target | Loaded, since: datetime, splits: Splits, case: str, errors: list[str]) -> None:
    """Note where the time of the messages went that were sent since, if there were any."""
    try:
        match target:
            case Wakeful():
                split = phases.split(target, since)
            case Relay():
                split = phases.of_relay(target)
            case _:
                return
    except RuntimeError as error:
        errors.append(str(error))
        return
    if split:
        splits[target.name].setdefault(case, []).append(split)


def _takes(case: Case, target: Target | Loaded) -> bool:
    """Whether a case is measured on a target. The load suite is, on anyone's server."""
    return case.suite == "load" if isinstance(target, Foreign) else target.name in case.on


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
    for line in shortfall.lines(whole):
        console.print(line, style="dim", markup=False, highlight=False)
    for table in level_report.tables(whole.levels):
        console.print(table)
    slow, fast = max(whole.calibration_ms, default=0), min(whole.calibration_ms, default=0)
    console.print(f"{whole.seconds:.0f} s; a fixed piece of work took {fast:.1f} to {slow:.1f} ms meanwhile")
    if whole.load_before > QUIET_LOAD:
        console.print(f"[yellow]load average before: {whole.load_before:.1f}; something else ran here[/]")
    for note in whole.notes:
        console.print(f"not measured: {note}", style="yellow", markup=False)
    for error in whole.errors:
        console.print(error, style="red", markup=False)
    console.print(f"JSON: {path}")


if __name__ == "__main__":
    sys.exit(main())
