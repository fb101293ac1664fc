"""Runs cases: starts what is measured, lets the targets take turns in each run, and keeps what was found."""

import shutil
import tempfile
import time
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bench import budget, measure, phases, profiling, targets
from bench.budget import Taken
from bench.case import Bar, Bench, Case, Done, Effort, Figures, turns
from bench.foreign import Foreign, RefusedError
from bench.levels import Level
from bench.loaded import Floor, Loaded
from bench.provider import Provider
from bench.targets import Relay, Target, Wakeful

OWN = {"relay": Relay, "ours": Wakeful}
KINDS = (Floor.name, *OWN)

Splits = dict[str, dict[str, list[phases.Split]]]  # by target and case
Measured = dict[str, dict[str, list[Figures]]]


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. `names` are targets of ours, `foreign` anyone's; a case of `profiles` is recorded."""

    cases: Sequence[Case]
    names: Sequence[str]
    effort: Effort
    profiles: Mapping[str, Path] = {}
    foreign: Sequence[Foreign] = ()
    provider_port: int = 0


class Found(Struct):
    """What a sitting found: figures by case and target, levels of load, and where messages spent their time.

    `notes` say what could not be measured, `errors` what failed, `taken` how long each case took.
    """

    measured: Measured
    splits: Splits
    calibration_ms: list[float] = []
    errors: list[str] = []
    levels: list[Level] = []
    notes: list[str] = []
    taken: list[Taken] = []


def run(plan: Plan) -> Found:
    """Start everything, run each case as often as asked with the targets taking turns, stop everything."""
    found = Found({case.name: {} for case in plan.cases}, {"ours": {}, "relay": {}})
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="wakeful-bench-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        targets.make_home(home)
        provider = stack.enter_context(Provider(bodies=False, port=plan.provider_port))
        shown = stack.enter_context(_progress())
        total = budget.whole(plan.cases, plan.effort, plan.names)
        task = shown.add_task("starting", total=total)
        ready = _start(plan, provider, home, stack, found)
        bench = Bench(provider, home, plan.effort)
        bench.levels, bench.notes = found.levels, found.notes
        bench.tell = lambda text: shown.update(task, description=text)
        bench.bar = _bar(shown)
        for case in plan.cases:
            began = time.monotonic()
            _run_case(case, plan, ready, bench, found, lambda seconds: shown.advance(task, seconds))
            planned = budget.planned(case, plan.effort, plan.names)
            runs, took = case.runs(plan.effort), time.monotonic() - began
            found.taken.append(Taken(case.name, runs, planned, took))
    return found


def _start(
    plan: Plan, provider: Provider, home: Path, stack: ExitStack, found: Found
) -> list[Target | Loaded]:
    """Start and warm what is ours; each is ended with the stack."""
    ready: list[Target | Loaded] = []
    for name in plan.names:
        if name == Floor.name:
            ready.append(Floor(provider))
            continue
        target = OWN[name](home / name, provider)
        stack.callback(target.stop)
        target.start()
        targets.warm(target)
        ready.append(target)
    for server in plan.foreign:
        stack.callback(leave, server, found.errors)
        ready.append(server)
    return ready


def _run_case(
    case: Case, plan: Plan, ready: Sequence[Target | Loaded], bench: Bench, found: Found, done: Done
) -> None:
    """Run a case as often as asked; a target on which it fails is left out of its further runs.

    `done` is told of the seconds that were planned for what is over.
    """
    on = [target for target in ready if takes(case, target)]
    for number in range(case.runs(plan.effort)):
        for target in tuple(on):
            bench.tell(f"{case.name}, run {number + 1} of {case.runs(plan.effort)}, {target.name}")
            found.calibration_ms.append(measure.calibration_ms())
            try:
                _measure(case, target, bench, found, plan.profiles.get(case.name))
            except profiling.ProfileError as error:
                found.errors.append(f"{case.name} was not recorded: {error}")
            except Exception:  # noqa: BLE001 - a case that fails must not take the others' figures along
                on.remove(target)
                found.errors.append(f"{case.name} on {target.name}:\n{traceback.format_exc()}")
            once_s = 0.0 if number else case.once_s.get(target.name, 0.0)
            done(case.run_s.get(target.name, 0.0) + once_s)


def _measure(case: Case, target: Target | Loaded, bench: Bench, found: Found, profile: Path | None) -> None:
    since = phases.now()
    if isinstance(target, Relay):
        phases.of_relay(target)  # those of other cases are forgotten
    if profile is not None and isinstance(target, Wakeful):
        figures = profiling.measure(case, target, bench, path=profile)
    else:
        figures = case.measure(target, bench)
    found.measured[case.name].setdefault(target.name, []).extend(turns(figures))
    _split(target, since, found, case.name)


def _split(target: Target | Loaded, since: datetime, found: Found, case: str) -> None:
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
        found.errors.append(str(error))
        return
    if split:
        found.splits[target.name].setdefault(case, []).append(split)


def takes(case: Case, target: Target | Loaded) -> bool:
    """Whether a case is measured on a target. The load suite is, on anyone's server."""
    return case.suite == "load" if isinstance(target, Foreign) else target.name in case.on


def leave(server: Foreign, errors: list[str]) -> None:
    """Delete what was made on anyone's server; one that is gone takes no figures along."""
    try:
        server.stop()
    except RefusedError as error:
        errors.append(f"agents may be left on {server.name}: {error}")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _bar(shown: Progress) -> Bar:
    """Make bars for what takes long within a case; each is gone with its block."""

    @contextmanager
    def bar(words: str, total: float) -> Generator[Done]:
        task = shown.add_task(f"  {words}", total=total)
        try:
            yield lambda done: shown.advance(task, done)
        finally:
            shown.remove_task(task)

    return bar
