"""Plans how long a sitting takes on a quiet machine, and says what each case took."""

from collections.abc import Collection, Sequence

from msgspec import Struct
from rich.table import Table

from bench.case import Case, Effort

BOUND_S = 600.0  # a suite, at full effort
START_S = {"relay": 3.0, "ours": 5.0}  # to start and warm a target, and to end it


class Taken(Struct, frozen=True):
    """What a case took beside what was planned, in seconds; nothing is planned for a quick look."""

    case: str
    runs: int
    planned_s: float | None
    took_s: float


def planned(case: Case, effort: Effort, targets: Collection[str]) -> float | None:
    """Seconds of all runs of a case on those targets that it is measured on; None for a quick look."""
    if effort.quick:
        return None
    on = [target for target in targets if target in case.on]
    runs = case.runs(effort)
    return sum(case.once_s.get(target, 0.0) + runs * case.run_s.get(target, 0.0) for target in on)


def whole(cases: Sequence[Case], effort: Effort, targets: Collection[str]) -> float | None:
    """Seconds of a whole sitting, starts included; None for a quick look."""
    if effort.quick:
        return None
    starts = sum(START_S.get(target, 0.0) for target in targets)
    return starts + sum(planned(case, effort, targets) or 0.0 for case in cases)


def words(cases: Sequence[Case], effort: Effort, targets: Collection[str]) -> str:
    """What is going to be done, and how long it takes, in a line or two; empty for a quick look."""
    seconds = whole(cases, effort, targets)
    if seconds is None:
        return ""
    each = ", ".join(
        f"{case.name} {case.runs(effort)} x {(planned(case, effort, targets) or 0) / case.runs(effort):.0f}"
        for case in cases
    )
    return f"planned: {seconds:.0f} s on two quiet cores, as runs x seconds: {each}"


def table(taken: Sequence[Taken]) -> Table:
    """What each case took, for a terminal."""
    shown = Table(title="seconds")
    shown.add_column("case")
    for heading in ("runs", "planned", "took"):
        shown.add_column(heading, justify="right")
    for one in taken:
        plan = "" if one.planned_s is None else f"{one.planned_s:.0f}"
        shown.add_row(one.case, str(one.runs), plan, f"{one.took_s:.0f}")
    return shown
