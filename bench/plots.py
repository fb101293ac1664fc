"""Draws the levels of the load suite: lines by level, and latency by percentile."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from msgspec import Struct

from bench import level_report
from bench.histogram import curve
from bench.level_report import TITLES
from bench.levels import Level
from bench.report import number

WIDTH, HEIGHT = 620, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 12, 34
COLOURS = ("#3b82f6", "#059669", "#d97706", "#db2777", "#8b5cf6", "#0891b2")  # seen on light and on dark
REFERENCES = {"floor": "var(--other)", "relay": "var(--ink)"}
DASHED = ' stroke-dasharray="5 3"'
TAILS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
LEAST_MS = 0.1  # the logarithm of nothing is nowhere
PAIR = f"p50, and p99 dashed; what is less than {LEAST_MS:g} ms stands there"

Point = tuple[float, float]


class Drawn(Struct, frozen=True):
    """A line of a plot: `name` chooses its colour, `note` stands behind it in the legend."""

    name: str
    points: list[Point]
    dashed: bool = False
    note: str = ""


class Axis(Struct, frozen=True):
    """Where values of an axis stand, from 0 to 1, and the ticks to be labelled."""

    place: Callable[[float], float]
    ticks: list[tuple[float, str]]


def figures(measured: Sequence[Level]) -> dict[str, str]:
    """The plots of each case that has levels, as HTML."""
    drawn: dict[str, str] = {}
    for (case, loop), found in level_report.groups(measured).items():
        plots = _by_level(case, loop, found) + _by_percentile(case, loop, found)
        drawn[case] = drawn.get(case, "") + plots + _notes(found)
    return drawn


def _notes(found: Sequence[Level]) -> str:
    """What must be said of the levels, below their plots."""
    said = "".join(f"<li>{escape(note)}</li>" for note in level_report.notes(found))
    return f'<ul class="note">{said}</ul>' if said else ""


def _by_level(case: str, loop: str, found: Sequence[Level]) -> str:
    names = sorted({level.level for level in found})
    if len(names) < 2 or (case, loop) == ("load_messages", "open"):
        return ""
    places = {name: index / (len(names) - 1) for index, name in enumerate(names)}
    x = Axis(lambda value: places[round(value)], [(name, f"{name:,}") for name in names])
    heading, title = TITLES.get((case, loop), ("level", case))
    if (case, loop) == ("load_messages", "closed"):
        lines = _lines(found, lambda level: level.rate)
        return _figure(title, "", heading, lines, x, _logarithmic(lines, number))
    lines = _lines(found, lambda level: _shown(level, "p50"))
    lines += _lines(found, lambda level: _shown(level, "p99"), dashed=True)
    drawn = _figure(title, PAIR, heading, lines, x, _logarithmic(lines))
    if case == "load_first_token":
        gaps = _lines(found, lambda level: _gap(level, "p50"))
        gaps += _lines(found, lambda level: _gap(level, "p99"), dashed=True)
        drawn += _figure("ms added to each gap between words", PAIR, heading, gaps, x, _logarithmic(gaps))
    return drawn


def _by_percentile(case: str, loop: str, found: Sequence[Level]) -> str:
    """Latency by percentile at one level: in the open loop, where it says what users see."""
    if loop != "open":
        return ""
    chosen = found if case == "load_messages" else _common(found)
    lines: list[Drawn] = []
    for level in chosen:
        latency = level_report.shown(level)
        if latency is not None:
            points = [(rank, ms) for rank, ms in curve(latency.encoded) if ms >= LEAST_MS]
            note = f" {number(level.asked or 0)}/s" if case == "load_messages" else ""
            lines.append(Drawn(level.target, points, note=note))
    if not lines:
        return ""
    heading, title = TITLES.get((case, loop), ("level", case))
    at = "" if case == "load_messages" else f"{chosen[0].level:,} {heading}"
    return _figure(title, at, "percentile", lines, _tail(lines), _logarithmic(lines))


def _common(found: Sequence[Level]) -> list[Level]:
    """The levels that most targets have in common, the highest of those that as many have."""
    by_level: dict[int, list[Level]] = {}
    for level in found:
        if level_report.shown(level) is not None:
            by_level.setdefault(level.level, []).append(level)
    return max(by_level.items(), key=lambda item: (len(item[1]), item[0]), default=(0, list[Level]()))[1]


def _lines(
    found: Sequence[Level], value_of: Callable[[Level], float | None], *, dashed: bool = False
) -> list[Drawn]:
    lines: dict[str, list[Point]] = {}
    for level in found:
        if (value := value_of(level)) is not None:
            lines.setdefault(level.target, []).append((level.level, value))
    return [Drawn(name, points, dashed) for name, points in lines.items()]


def _shown(level: Level, rank: str) -> float | None:
    latency = level_report.shown(level)
    return None if latency is None else max(LEAST_MS, getattr(latency, rank))


def _gap(level: Level, rank: str) -> float | None:
    latency = level.gap_added or level.gap
    return None if latency is None else max(LEAST_MS, getattr(latency, rank))


def _time(ms: float) -> str:
    return f"{number(ms / 1000)} s" if ms >= 1000 else f"{number(ms)} ms"


def _logarithmic(lines: Sequence[Drawn], label: Callable[[float], str] = _time) -> Axis:
    values = [y for line in lines for _, y in line.points if y > 0]
    low = math.floor(math.log10(min(values, default=1)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=1))))
    ticks = [(10.0**power, label(10.0**power)) for power in range(low, high + 1)]
    return Axis(lambda value: (math.log10(max(value, 10.0**low)) - low) / (high - low), ticks)


def _tail(lines: Sequence[Drawn]) -> Axis:
    """Ever closer to 100 %: each further nine takes as much room as the one before."""
    most = max((rank for line in lines for rank, _ in line.points if rank < 100), default=90.0)
    high = -math.log10(1 - most / 100) or 1.0

    def place(rank: float) -> float:
        return 1.0 if rank >= 100 else min(1.0, -math.log10(1 - rank / 100) / high)

    return Axis(place, [(tick, f"{tick:g} %") for tick in TAILS if tick <= most])


def _figure(title: str, note: str, heading: str, lines: Sequence[Drawn], x: Axis, y: Axis) -> str:
    names = list(dict.fromkeys(line.name for line in lines))
    others = iter(COLOURS * len(names))
    colours = {name: REFERENCES.get(name) or next(others) for name in names}
    notes = {line.name: line.note for line in lines}
    legend = " ".join(
        f'<span class="key"><b style="color:{colour}">■</b> {escape(name + notes[name])}</span>'
        for name, colour in colours.items()
    )
    return (
        f'<figure class="wide"><figcaption>{escape(title)} <small>{escape(note)}</small><br>{legend}'
        f'</figcaption><div class="scroll">{_svg(title, heading, lines, x, y, colours)}</div></figure>'
    )


def _svg(
    title: str, heading: str, lines: Sequence[Drawn], x: Axis, y: Axis, colours: Mapping[str, str]
) -> str:
    def at(point: Point) -> Point:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x.place(point[0])
        return round(across, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y.place(point[1]), 1)

    drawn = [_grid(at, x, y)]
    for line in lines:
        if not line.points:
            continue
        colour = colours[line.name]
        path = "L".join(f"{across} {up}" for across, up in map(at, line.points))
        dashes = DASHED if line.dashed else ""
        drawn.append(f'<path d="M{path}" fill="none" style="stroke:{colour}" stroke-width="1.8"{dashes}/>')
        if len(line.points) <= len(TAILS) + 4:
            drawn += [
                f'<circle cx="{at(point)[0]}" cy="{at(point)[1]}" r="2.5" style="fill:{colour}">'
                f"<title>{escape(line.name)}: {number(point[1])}</title></circle>"
                for point in line.points
            ]
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(heading)}</text>')
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _grid(at: Callable[[Point], Point], x: Axis, y: Axis) -> str:
    first_x, first_y = x.ticks[0][0] if x.ticks else 0.0, y.ticks[0][0]
    drawn = [
        f'<path d="M{LEFT} {up}H{WIDTH - RIGHT}" class="axis"/>'
        f'<text x="{LEFT - 6}" y="{up + 4}" text-anchor="end">{label}</text>'
        for value, label in y.ticks
        for up in (at((first_x, value))[1],)
    ]
    drawn += [
        f'<path d="M{across} {TOP}V{HEIGHT - BOTTOM}" class="axis" opacity=".5"/>'
        f'<text x="{across}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{label}</text>'
        for value, label in x.ticks
        for across in (at((value, first_y))[0],)
    ]
    return "".join(drawn)
