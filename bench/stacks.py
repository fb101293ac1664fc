"""Draws where the time of a case's messages went: the phases of a message as one stacked bar."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

from bench.explain import DELIVERY, PHASES
from bench.report import number

WIDTH, HEIGHT, MARGIN = 800, 26, 4
COLOURS = {
    "accept": "#94a3b8",
    "claim": "#c026d3",
    "queue": "#475569",
    "compaction": "#7c3aed",
    "prompt": "#0891b2",
    "request sent": "#facc15",
    "first token": "#f59e0b",
    "stream": "#22c55e",
    "tools": "#2563eb",
    "checkpoint": "#dc2626",
}


def middle(splits: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each phase over several runs of a case; one that was absent counts as nothing."""
    if not splits:
        return {}
    names = [name for name, _, _ in (*PHASES, DELIVERY)]
    taken = {name: median(split.get(name, 0.0) for split in splits) for name in names}
    return {name: took for name, took in taken.items() if took > 0}


def figure(splits: Sequence[Mapping[str, float]], relay: Sequence[Mapping[str, float]] = ()) -> str:
    """Return the bar with its key, in milliseconds, and the relay's below it; nothing without phases.

    Both bars have one scale, so that the lengths compare.
    """
    phases, theirs = middle(splits), middle(relay)
    delivery = phases.pop(DELIVERY[0], 0.0)
    whole = sum(phases.values())
    if not whole:
        return ""
    messages = round(sum(split.get("runs", 0) for split in splits))
    caption = f"where a message's {number(whole)} ms went, in the middle of {messages} of them"
    if delivery:
        caption += f"; the beginning of the answer was handed on within {number(delivery)} ms"
    longest = max(whole, sum(theirs.values()))
    drawn = f"<small>{_keys(phases)}</small></figcaption>{_svg(phases, longest, 'phases of a message')}"
    if theirs:
        drawn += f"<small>the relay's {number(sum(theirs.values()))} ms: {_keys(theirs)}</small>"
        drawn += _svg(theirs, longest, "phases of the relay")
    return f'<figure class="wide"><figcaption>{escape(caption)}<br>{drawn}</figure>'


def _keys(phases: Mapping[str, float]) -> str:
    return "".join(
        f'<span class="key"><b style="color:{COLOURS[name]}">■</b> {escape(name)} {number(took)} ms</span> '
        for name, took in phases.items()
    )


def _svg(phases: Mapping[str, float], whole: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(_bars(phases, whole))}</svg>"
    )


def _bars(phases: Mapping[str, float], whole: float) -> list[str]:
    """The phases one after another, as they happen."""
    drawn: list[str] = []
    at = 0.0
    for name, took in phases.items():
        width = took / whole * (WIDTH - 2 * MARGIN)
        drawn.append(
            f'<rect x="{MARGIN + at:.2f}" y="{MARGIN}" width="{width:.2f}" height="{HEIGHT - 2 * MARGIN}" '
            f'fill="{COLOURS[name]}"><title>{escape(name)}: {number(took)} ms</title></rect>'
        )
        at += width
    return drawn
