"""Guards the CPU per message: fails where it has grown by more than a fifth beside a bare server's.

    python -m bench guard               compare with the baseline of this class of machine; about a minute
    python -m bench guard --update      record that baseline: three rounds, their medians; about three

What is compared are ratios to the relay, or to a bare uvicorn send, measured in pairs in the same run, so
that the machine's own drift is in both. Servers that were started another time differ by some per cent, and
one that has done other work before is dearer, so each measurement has servers of its own: in each round of a
baseline and in each try alike. A ratio that is too high is measured again until it is not, and is a loss only
when no try was within what is allowed. Record baselines when nothing else runs: on a busy machine ratios are
lower.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import baselines, measure, quiet, targets
from bench.baselines import FOLDER, LOSS, Baseline, Verdict
from bench.probes import PROBES, Probe, Stage
from bench.provider import Provider
from bench.report import number
from bench.targets import Relay, Target, Wakeful

LOST = 3  # the exit code where something costs more than is allowed; 1 says that nothing could be measured
AGAIN = 4  # times that a ratio which is too high is measured again
MOST_S = 150  # after so many seconds nothing is measured again
ROUNDS = 3  # of a baseline
BUSY = 1.0  # the load average above which a baseline should not have been recorded

Tries = dict[str, list[float]]
Kind = Callable[[Path, Provider], Target]
Staging = Callable[[], AbstractContextManager[Stage]]


def main(arguments: Sequence[str]) -> int:
    """Guard, or record a baseline. Returns `LOST` where something costs more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m bench guard", description=__doc__)
    parser.add_argument("--update", action="store_true", help="record the baseline of this machine's class")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the baselines (bench/baselines)")
    args = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    name = this_class()
    baseline = baselines.read(args.folder, name)
    if baseline is None and not args.update:
        console.print(
            f"[yellow]no baseline for {name}: nothing is compared. "
            "`python -m bench guard --update` records one; commit it[/]"
        )
        return 0
    load_before, began = os.getloadavg()[0], time.monotonic()
    if args.update:
        return _update(console, args.folder, name)
    assert baseline is not None
    verdicts = baselines.judge(baseline, compare(staged, baseline))
    console.print(table(verdicts, name))
    _note(console, baseline, verdicts)
    console.print(f"{time.monotonic() - began:.0f} s; load average before: {load_before:.1f}")
    return 0 if all(verdict.passed for verdict in verdicts) else LOST


def _update(console: Console, folder: Path, name: str) -> int:
    """Record the baseline when the machine is quiet, or was waited for; say what is written."""
    load_before = quiet.wait(console.print)
    if load_before > BUSY:
        console.print(f"[yellow]load average {load_before:.1f}: ratios are lower now than they will be[/]")
    console.print(f"measuring {ROUNDS} rounds of {len(PROBES)} probes for the baseline of {name}")
    began, recorded = time.monotonic(), record(staged, name=name, load_before=load_before)
    console.print(_recorded(recorded))
    path = baselines.write(folder, recorded)
    console.print(f"{time.monotonic() - began:.0f} s; baseline recorded: {path}; commit it", highlight=False)
    return 0


def this_class() -> str:
    """The class of this machine."""
    return baselines.machine_class(
        Path("/proc/cpuinfo").read_text(),
        cores=len(os.sched_getaffinity(0)),
        architecture=platform.machine(),
    )


@contextmanager
def staged(kind: Kind = Wakeful) -> Generator[Stage]:
    """Start this server, or another kind of it, and the relay; end both with the block."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="wakeful-guard-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        targets.make_home(home)
        provider = stack.enter_context(Provider(bodies=False))
        started: list[Target] = []
        for make in (kind, Relay):
            target = make(home / str(len(started)), provider)
            stack.callback(target.stop)
            target.start()
            targets.warm(target)
            started.append(target)
        yield Stage(started[0], started[1], home)


def compare(staging: Staging, baseline: Baseline, probes: Sequence[Probe] = PROBES) -> Tries:
    """Measure every probe, and again, on servers that are started anew, those with a ratio that is too high.

    Up to `AGAIN` times, and not after `MOST_S`.
    """
    tries: Tries = {}
    latest = time.monotonic() + MOST_S
    chosen = list(probes)
    for words in ("measuring", *["measuring again"] * AGAIN):
        if not chosen or (tries and time.monotonic() > latest):
            break
        _measure(staging, chosen, tries, words)
        lost = {verdict.key for verdict in baselines.judge(baseline, tries) if not verdict.passed}
        chosen = [probe for probe in probes if lost & probe.titles.keys()]
    return tries


def record(staging: Staging, *, name: str, load_before: float, probes: Sequence[Probe] = PROBES) -> Baseline:
    """Measure every probe `ROUNDS` times, as `compare` does each; the baseline has the medians."""
    tries: Tries = {}
    for _ in range(ROUNDS):
        _measure(staging, probes, tries, "measuring")
    return Baseline(
        machine_class=name,
        machine=measure.machine(),
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        load_before=load_before,
        own_servers=True,
        ratios={key: round(median(values), 3) for key, values in tries.items()},
        rounds={key: [round(value, 3) for value in values] for key, values in tries.items()},
    )


def _measure(staging: Staging, probes: Sequence[Probe], tries: Tries, words: str) -> None:
    """Measure each probe once, on servers of its own."""
    for probe in _shown(probes, words):
        with staging() as stage:
            for key, pairs in probe.measure(stage).items():
                tries.setdefault(key, []).append(baselines.ratio(pairs))


def _shown(probes: Sequence[Probe], words: str) -> Any:
    return track(probes, description=words, console=Console(stderr=True), transient=True)


def table(verdicts: Sequence[Verdict], name: str) -> Table:
    """The verdicts for a terminal."""
    shown = Table(title=f"CPU as ratios in one run, on {name}; at most {LOSS:.0%} above the baseline")
    for heading in ("case", "what"):
        shown.add_column(heading)
    for heading in ("baseline", "now", "allowed"):
        shown.add_column(heading, justify="right")
    shown.add_column("")
    for verdict in verdicts:
        shown.add_row(
            verdict.key,
            _title(verdict.key),
            "-" if verdict.baseline is None else number(verdict.baseline),
            ", then ".join(map(number, verdict.tries)),
            "-" if verdict.allowed is None else f"≤ {number(verdict.allowed)}",
            "[green]pass[/]" if verdict.passed else "[red]FAIL[/]",
        )
    return shown


def _note(console: Console, baseline: Baseline, verdicts: Sequence[Verdict]) -> None:
    """Say what makes the comparison less than it seems."""
    now, then = measure.machine(), baseline.machine
    if baseline.load_before > BUSY:
        console.print(
            f"[yellow]the baseline was recorded at a load of {baseline.load_before:.1f}, "
            "where ratios are lower: record it anew[/]"
        )
    if not baseline.own_servers:
        console.print(
            "[yellow]the baseline was recorded on servers that had done other work before, where ratios are "
            "higher: record it anew[/]"
        )
    if now["python"] != then["python"]:
        console.print(f"[yellow]the baseline is of Python {then['python']}, this is {now['python']}[/]")
    if new := [verdict.key for verdict in verdicts if verdict.baseline is None]:
        console.print(f"[yellow]no baseline for {', '.join(new)}: `--update` records one[/]")
    if better := [verdict.key for verdict in verdicts if verdict.improved]:
        console.print(f"much better than the baseline: {', '.join(better)}; `--update` keeps it so")


def _recorded(baseline: Baseline) -> Table:
    shown = Table(title=f"baseline of {baseline.machine_class}, commit {baseline.machine['commit']}")
    shown.add_column("what")
    for heading in ("median", "rounds"):
        shown.add_column(heading, justify="right")
    for key, value in baseline.ratios.items():
        shown.add_row(_title(key), number(value), ", ".join(map(number, baseline.rounds[key])))
    return shown


def _title(key: str) -> str:
    return next((probe.titles[key] for probe in PROBES if key in probe.titles), key)
