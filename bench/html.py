"""Makes a page of a report's JSON: every row as a plot, in one file that needs nothing else."""

from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec
from msgspec import Struct

from bench import plots, stacks
from bench.budget import Taken
from bench.levels import Level
from bench.report import number

WIDTH, LEFT, RIGHT, ROW_HEIGHT = 560, 60, 20, 26
COLOURS = {"ours": "var(--ours)", "relay": "var(--other)", "limit": "var(--other)"}
STYLE = """
:root { color-scheme: light dark; --ink: #111827; --soft: #6b7280; --paper: #fff; --rule: #e5e7eb;
  --box: #f3f4f6; --ours: #2563eb; --other: #9ca3af; --bad: #dc2626; --good: #15803d }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #9ca3af; --paper: #111827;
  --rule: #374151; --box: #1f2937; --ours: #60a5fa; --other: #9ca3af; --bad: #f87171; --good: #4ade80 } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }
h1, .note { overflow-wrap: anywhere } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--rule) }
figure { margin: 1rem 0; display: grid; grid-template-columns: 20rem 1fr; gap: 1rem; align-items: center }
figcaption small, .note { color: var(--soft) } .pass { color: var(--good) }
.fail { color: var(--bad); font-weight: 600 } a { color: inherit }
.key { white-space: nowrap; margin-right: .5em }
figure.wide { grid-template-columns: 1fr; gap: .25rem; max-width: 50rem }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--ink) }
.limit { stroke: var(--bad); stroke-dasharray: 4 2 } .axis { stroke: var(--rule); fill: none }
th, td { padding: .1rem 1rem .1rem 0; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } th { font-weight: 600 }
.scroll { overflow-x: auto } pre { overflow-x: auto; background: var(--box); padding: 1rem }
@media (max-width: 44rem) { figure { grid-template-columns: 1fr; gap: .25rem; margin: 1.5rem 0 }
  .scroll svg { min-width: 32rem } svg text { font-size: 15px } .scroll svg text { font-size: 11px } }
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
    limit: Spread | None = None
    reference: bool = False
    figure: float | None = None
    relay_then: float | None = None
    limit_then: float | None = None
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
    relay_phases: dict[str, list[dict[str, float]]] = {}
    notes: list[str] = []
    taken: list[Taken] = []


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
        f'<h2 id="{escape(case)}">{escape(case)}</h2>{"".join(map(_figure, rows))}{plotted.get(case, "")}'
        f"{stacks.figure(sitting.phases.get(case, []), sitting.relay_phases.get(case, []))}"
        for case, rows in cases.items()
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in sitting.notes)
    left_out = f"<h2>What was not measured</h2><ul>{notes}</ul>" if notes else ""
    errors = "".join(f"<h2>What failed</h2><pre>{escape(error)}</pre>" for error in sitting.errors)
    title = f"wakeful bench, {escape(sitting.started_at)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{title}</h1>{_about(sitting)}{_verdicts(sitting.rows)}{sections}{left_out}{errors}"
        f"{_taken(sitting.taken)}</html>\n"
    )


def _about(sitting: Sitting) -> str:
    machine = sitting.machine
    words = (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"commit {machine['commit'][:12]}; {sitting.seconds:.0f} s; "
        f"load average before: {sitting.load_before:.1f}"
    )
    colours = ", ".join(f'<b style="color:{COLOURS[name]}">{name}</b>' for name in ("ours", "relay"))
    return (
        f'<p class="note">{escape(words)}</p><p class="note">A dot is a run, a bar the median of the runs: '
        f'{colours}. The <b class="fail">line</b> is what is allowed on this machine now. Where no relay '
        "does what is measured, the lower bar is the limit that it is set beside.</p>"
    )


def _taken(taken: Sequence[Taken]) -> str:
    """What each case took."""
    if not taken:
        return ""
    lines = "".join(
        f"<tr><td>{escape(one.case)}<td>{one.runs}"
        f"<td>{'' if one.planned_s is None else f'{one.planned_s:.0f}'}<td>{one.took_s:.0f}"
        for one in taken
    )
    heads = "<tr><th>case<th>runs<th>planned, s<th>took, s"
    return f'<h2>How long it took</h2><div class="scroll"><table>{heads}{lines}</table></div>'


def _verdicts(rows: Sequence[Shown]) -> str:
    """How many rows pass, and which fail, each with a link to its case."""
    failed = [row for row in rows if row.passed is False]
    links = "".join(
        f'<li><a href="#{escape(row.case)}">{escape(row.case)}: {escape(row.title)}</a></li>'
        for row in failed
    )
    passed = sum(row.passed is True for row in rows)
    return f"<p>{passed} rows pass, {len(failed)} fail.</p><ul>{links}</ul>" if passed or failed else ""


def _figure(row: Shown) -> str:
    unit = f" ({row.unit})" if row.unit else ""
    verdict = {True: '<span class="pass">pass</span>', False: '<span class="fail">FAIL</span>', None: ""}
    said = [
        f"{name} {_number(spread.median)}"
        for name, spread in _lines(row)
        if spread is not None and spread.median is not None
    ]
    said += [] if row.allowed is None else [_allowed(row, row.allowed)]
    bound = ", ".join([*said, *_ratio(row), *_runs(row)])
    return (
        f"<figure><figcaption>{escape(row.title + unit)} {verdict[row.passed]}<br>"
        f"<small>{bound}</small></figcaption>{_plot(row)}</figure>"
    )


def _allowed(row: Shown, allowed: float) -> str:
    """What is allowed now, and what was asked where that scales with what stands beside it."""
    beside, then = ("relay", row.relay_then) if row.relay_then else ("limit", row.limit_then)
    scaled = row.figure is not None and then is not None and row.figure != allowed
    asked = f" ({_number(row.figure)} where the {beside} has {_number(then)})" if scaled else ""
    return f"allowed {'≥' if row.at_least else '≤'} {_number(allowed)}{asked}"


def _runs(row: Shown) -> list[str]:
    """Of how many runs it is the median."""
    most = max((len(spread.runs) for _, spread in _lines(row)), default=0)
    return [f"{most} runs" if most > 1 else "one run"] if most else []


def _lines(row: Shown) -> list[tuple[str, Spread]]:
    """What is drawn of a row: ours, and the relay's or else the limit. A reference is a limit itself."""
    if row.reference:
        return [] if row.ours is None else [("limit", row.ours)]
    given = (("ours", row.ours), ("relay", row.relay), ("limit", None if row.relay else row.limit))
    return [(name, spread) for name, spread in given if spread is not None]


def _ratio(row: Shown) -> list[str]:
    """Ours by the relay's, or the limit, or else what is allowed, in words; nothing where there is none."""
    if row.reference:
        return []
    beside = next((spread.median for spread in (row.relay, row.limit) if spread is not None), row.allowed)
    if row.ours is None or row.ours.median is None or not beside:
        return []
    return [f"{number(row.ours.median / beside)} times"]


def _number(value: float) -> str:
    return "0" if value == 0 else number(value)


def _plot(row: Shown) -> str:
    """The runs of both targets on one axis that begins at nothing."""
    lines = _lines(row)
    values = [value for _, spread in lines for value in (spread.median, *spread.runs) if value is not None]
    values += [] if row.allowed is None else [row.allowed]
    low, high = min([*values, 0.0]), max([*values, 0.0])
    height = ROW_HEIGHT * max(1, len(lines)) + 18

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1), 1)

    drawn = [_line(x, name, spread, ROW_HEIGHT * at) for at, (name, spread) in enumerate(lines)]
    axis = height - 18
    drawn.append(f'<path d="M{x(low)} {axis}H{x(high)}" class="axis"/>')
    drawn += [
        f'<text x="{x(value)}" y="{height - 4}" text-anchor="{"end" if value == high else "middle"}">'
        f"{_number(value)}</text>"
        for value in sorted({low, high})
    ]
    if row.allowed is not None:
        drawn.append(f'<path d="M{x(row.allowed)} 0V{axis}" class="limit"/>')
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
        f'style="fill:{colour}" opacity=".35"><title>{name}: {number(spread.median)}</title></rect>'
    )
    drawn += [
        f'<circle cx="{x(run)}" cy="{middle}" r="3" style="fill:{colour}">'
        f"<title>{number(run)}</title></circle>"
        for run in spread.runs
        if run is not None
    ]
    return "".join(drawn)
