"""Judges rows and shows them: a table for people, JSON for everything else."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from msgspec import Struct
from rich.table import Table

from bench.budget import Taken
from bench.case import Case, Figures, Row
from bench.levels import Level

DIGITS = 3  # significant ones


class Seen(Struct, frozen=True):
    """A figure over several runs."""

    median: float
    lowest: float
    highest: float
    runs: list[float]


class Judged(Struct, frozen=True, kw_only=True):
    """A row with what was measured. `passed` is None where nothing was asked, or could not be judged.

    `limit` is what stands in the relay's place where there is none, `limit_then` what it was where the figure
    was asked, and a `reference` is such a limit itself; of `within` and `lever` too: see `bench.case.Row`.
    """

    case: str
    key: str
    title: str
    unit: str
    ours: Seen | None
    relay: Seen | None
    limit: Seen | None = None
    limit_then: float | None = None
    reference: bool = False
    figure: float | None
    relay_then: float | None
    allowed: float | None
    at_least: bool
    passed: bool | None
    within: Sequence[str] | None = None
    lever: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """Everything about one sitting. `figures` holds every figure of every run by case and target.

    `levels` holds what the load suite measured, with its histograms; `phases` where the time of each case's
    messages to this server went, run by run, and `relay_phases` that of the relay's: see `bench.phases`.
    `notes` say what could not be measured, `taken` how long each case took.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    started_at: str
    seconds: float
    load_before: float
    calibration_ms: list[float]
    rows: list[Judged]
    figures: dict[str, dict[str, list[Figures]]]
    errors: list[str]
    levels: list[Level] = []
    phases: dict[str, list[dict[str, float]]] = {}
    relay_phases: dict[str, list[dict[str, float]]] = {}
    notes: list[str] = []
    taken: list[Taken] = []


def judge(case: Case, measured: dict[str, list[Figures]]) -> list[Judged]:
    """Judge a case's rows by the medians of their runs. Targets that were not measured have none."""
    return [_judge(case.name, row, measured) for row in case.rows]


def _judge(case: str, row: Row, measured: dict[str, list[Figures]]) -> Judged:
    ours, relay = (_seen(row.key, measured.get(target, [])) for target in ("ours", "relay"))
    limit = None if row.limit is None else _seen(row.limit, measured.get("ours", []))
    allowed = _allowed(row, relay, limit)
    passed = None
    if ours is not None and allowed is not None:
        passed = ours.median >= allowed if row.at_least else ours.median <= allowed
    return Judged(
        case=case,
        key=row.key,
        title=row.title,
        unit=row.unit,
        ours=ours,
        relay=relay,
        limit=limit,
        limit_then=row.limit_then,
        reference=row.reference,
        figure=row.figure,
        relay_then=row.relay,
        allowed=allowed,
        at_least=row.at_least,
        passed=passed,
        within=row.within,
        lever=row.lever,
    )


def _seen(key: str, runs: Sequence[Figures]) -> Seen | None:
    values = [run[key] for run in runs if key in run]
    return Seen(median(values), min(values), max(values), values) if values else None


def _allowed(row: Row, relay: Seen | None, limit: Seen | None) -> float | None:
    """The figure as this machine allows it today: scaled by what the relay does now, or the limit."""
    if row.figure is None or not row.drifts:
        return row.figure
    beside, then = (relay, row.relay) if row.relay is not None else (limit, row.limit_then)
    if then is None:
        return row.figure
    return None if beside is None else row.figure * beside.median / then


def table(rows: Sequence[Judged]) -> Table:
    """The rows for a terminal."""
    shown = Table(title="median of the runs, lowest to highest in brackets")
    shown.add_column("what")
    for heading in ("runs", "ours", "relay, or limit", "ratio", "figure", "allowed now"):
        shown.add_column(heading, justify="right")
    shown.add_column("")
    for row in rows:
        if row.ours is None and row.relay is None and row.limit is None:
            continue  # of a target that was left out, or failed, which is said below
        shown.add_row(
            row.title + (f" ({row.unit})" if row.unit else ""),
            str(max((len(seen.runs) for seen in (row.ours, row.relay) if seen is not None), default=0)),
            "" if row.reference else _spread(row.ours),
            _spread(row.ours if row.reference else row.relay or row.limit),
            _ratio(row),
            _bound(row, row.figure),
            _bound(row, row.allowed),
            {True: "[green]pass[/]", False: "[red]FAIL[/]", None: ""}[row.passed],
        )
    return shown


def _spread(seen: Seen | None) -> str:
    if seen is None:
        return "-"
    if len(seen.runs) == 1:
        return number(seen.median)
    return f"{number(seen.median)} [dim]\\[{number(seen.lowest)}-{number(seen.highest)}][/]"


def _ratio(row: Judged) -> str:
    beside = _beside(row)
    return number(row.ours.median / beside) if row.ours is not None and beside else ""


def _beside(row: Judged) -> float | None:
    """What ours is set in relation to: the relay, the limit, or else what is allowed."""
    if row.reference:
        return None
    seen = row.relay or row.limit
    return row.allowed if seen is None else seen.median


def _bound(row: Judged, value: float | None) -> str:
    return "" if value is None else f"{'≥' if row.at_least else '≤'} {number(value)}"


def number(value: float) -> str:
    """A number to three significant digits, without an exponent."""
    if value == 0 or value != value or abs(value) == float("inf"):
        return str(value)
    if abs(value) >= 10 ** (DIGITS - 1):
        return f"{value:,.0f}"
    return f"{float(f'{value:.{DIGITS}g}'):g}"
