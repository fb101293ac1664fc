"""Makes a page of a report's JSON: every row as a plot, in one file that needs nothing else."""

from html import escape
from typing import Any

import msgspec
from msgspec import Struct

from bench import plots, stacks
from bench.levels import Level
from bench.report import number

WIDTH, LEFT, RIGHT, ROW_HEIGHT = 560, 60, 20, 26
COLOURS = {"ours": "#2563eb", "relay": "#9ca3af"}
LIMIT_COLOUR = "#dc2626"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: #111827; background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #e5e7eb }
figure { margin: 1rem 0; display: grid; grid-template-columns: 20rem 1fr; gap: 1rem; align-items: center }
figcaption small, .note { color: #6b7280 } .pass { color: #15803d } .fail { color: #dc2626; font-weight: 600 }
.key { white-space: nowrap; margin-right: .5em }
figure.wide { grid-template-columns: 1fr; gap: .25rem; max-width: 50rem }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: #374151 }
pre { overflow-x: auto; background: #f3f4f6; padding: 1rem }
"""


class Spread(Struct, frozen=True):
    """A figure over several runs. A run without a finite one has none in JSON."""

    median: float | None
    runs: list[float | None]


class Shown(Struct, frozen=True, kw_only=True):
    """A row of the report, as far as it is shown."""

    case: str
    title: str
    unit: str
    ours: Spread | None
    relay: Spread | None
    allowed: float | None
    at_least: bool
    passed: bool | None


class Sitting(Struct, frozen=True, kw_only=True):
    """A report's JSON, as far as it is shown."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    started_at: str
    seconds: float
    load_before: float
    rows: list[Shown]
    errors: list[str]
    levels: list[Level] = []
    phases: dict[str, list[dict[str, float]]] = {}


def page(report: bytes) -> str:
    """Return the page of a report that `python -m bench` has written.

    Raises:
        msgspec.DecodeError: It is no such report.
    """
    sitting = msgspec.json.decode(report, type=Sitting)
    plotted = plots.figures(sitting.levels)
    cases: dict[str, list[Shown]] = {case: [] for case in plotted}
    for row in sitting.rows:
        cases.setdefault(row.case, []).append(row)
    sections = "".join(
        f"<h2>{escape(case)}</h2>{''.join(map(_figure, rows))}{plotted.get(case, '')}"
        f"{stacks.figure(sitting.phases.get(case, []))}"
        for case, rows in cases.items()
    )
    errors = "".join(f"<h2>What failed</h2><pre>{escape(error)}</pre>" for error in sitting.errors)
    title = f"wakeful bench, {escape(sitting.started_at)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{title}</h1>{_about(sitting)}{sections}{errors}</html>\n"
    )


def _about(sitting: Sitting) -> str:
    machine = sitting.machine
    words = (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"commit {machine['commit']}; {sitting.seconds:.0f} s; load average before: {sitting.load_before:.1f}"
    )
    colours = ", ".join(f'<b style="color:{colour}">{name}</b>' for name, colour in COLOURS.items())
    return (
        f'<p class="note">{escape(words)}</p><p class="note">A dot is a run, a bar the median of the runs: '
        f'{colours}. The <b style="color:{LIMIT_COLOUR}">line</b> is what is allowed on this machine now.</p>'
    )


def _figure(row: Shown) -> str:
    unit = f" ({row.unit})" if row.unit else ""
    verdict = {True: '<span class="pass">pass</span>', False: '<span class="fail">FAIL</span>', None: ""}
    bound = "" if row.allowed is None else f"{'≥' if row.at_least else '≤'} {number(row.allowed)}"
    return (
        f"<figure><figcaption>{escape(row.title + unit)} {verdict[row.passed]}<br>"
        f"<small>{bound}</small></figcaption>{_plot(row)}</figure>"
    )


def _plot(row: Shown) -> str:
    """The runs of both targets on one axis that begins at nothing."""
    lines = [(name, spread) for name, spread in (("ours", row.ours), ("relay", row.relay)) if spread]
    values = [value for _, spread in lines for value in (spread.median, *spread.runs) if value is not None]
    values += [] if row.allowed is None else [row.allowed]
    low, high = min([*values, 0.0]), max([*values, 0.0])
    height = ROW_HEIGHT * max(1, len(lines)) + 18

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1), 1)

    drawn = [_line(x, name, spread, ROW_HEIGHT * at) for at, (name, spread) in enumerate(lines)]
    axis = height - 18
    drawn.append(f'<path d="M{x(low)} {axis}H{x(high)}" stroke="#d1d5db"/>')
    drawn += [
        f'<text x="{x(value)}" y="{height - 4}" text-anchor="middle">{number(value)}</text>'
        for value in sorted({low, high})
    ]
    if row.allowed is not None:
        drawn.append(f'<path d="M{x(row.allowed)} 0V{axis}" stroke="{LIMIT_COLOUR}" stroke-dasharray="4 2"/>')
    label = escape(row.title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _line(x: Any, name: str, spread: Spread, top: int) -> str:
    colour, middle = COLOURS[name], top + ROW_HEIGHT / 2
    drawn = [f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{name}</text>']
    if spread.median is None:
        return f'{drawn[0]}<text x="{LEFT + 4}" y="{middle + 4}">none</text>'
    start, end = sorted((x(0), x(spread.median)))
    drawn.append(
        f'<rect x="{start}" y="{top + 6}" width="{max(1, end - start):.1f}" height="{ROW_HEIGHT - 12}" '
        f'fill="{colour}" opacity=".35"><title>{name}: {number(spread.median)}</title></rect>'
    )
    drawn += [
        f'<circle cx="{x(run)}" cy="{middle}" r="3" fill="{colour}"><title>{number(run)}</title></circle>'
        for run in spread.runs
        if run is not None
    ]
    return "".join(drawn)
