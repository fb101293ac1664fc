"""Shows the levels of the load suite: a table by case, each level beside those of the relay and the floor."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from bench import levels
from bench.histogram import Latency
from bench.levels import Level
from bench.report import number

TITLES = {
    ("load_first_token", "open"): ("streams", "first text, ms added to the provider's"),
    ("load_messages", "closed"): ("agents", "messages a second, each agent with one under way"),
    ("load_messages", "open"): ("agents", "message at 70 % of the most a second, ms added to the provider's"),
    ("load_history", "closed"): ("history", "blocking message, ms added to the provider's"),
}
REFERENCES = ("relay", "floor")


def groups(measured: Sequence[Level]) -> dict[tuple[str, str], list[Level]]:
    """The levels by case and loop, as they were measured."""
    found: dict[tuple[str, str], list[Level]] = {}
    for level in measured:
        found.setdefault((level.case, level.loop), []).append(level)
    return found


def shown(level: Level) -> Latency | None:
    """What a level is about: first text where it streamed in the open loop, else the whole answer.

    That which the server added, where the model was the provider; the whole time where it was another.
    """
    if level.case == "load_first_token":
        return level.first_added or level.first
    return level.whole_added or level.whole


def absolute(level: Level) -> bool:
    """Whether a server's model was its own, so that its times hold the model's as well."""
    return level.whole is not None and level.whole_added is None


def tables(measured: Sequence[Level]) -> list[Table]:
    """The tables for a terminal."""
    return [_table(case, loop, found) for (case, loop), found in groups(measured).items()]


def _table(case: str, loop: str, found: Sequence[Level]) -> Table:
    heading, title = TITLES.get((case, loop), ("level", case))
    gaps = case == "load_first_token"
    table = Table(title=f"{case}: {title}")
    table.add_column("target", no_wrap=True)
    columns = [heading, "answers/s", "failed", "p50", "p90", "p99", "p99.9", "max"]
    columns += ["gap p50", "gap p99"] if gaps else []
    for name in [*columns, "/ relay", "/ floor", "sent after, p99"]:
        table.add_column(name, justify="right")
    for level in found:
        table.add_row(*_row(level, found, gaps=gaps))
    table.caption = "\n".join(filter(None, map(_note, found))) or None
    return table


def _row(level: Level, found: Sequence[Level], *, gaps: bool) -> list[str]:
    cells = [level.target, f"{level.level:,}", number(level.rate), _failed(level)]
    latency = shown(level)
    values = (latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max) if latency else ()
    cells += [number(value) for value in values] or ["-"] * 5
    if gaps:
        gap = level.gap_added or level.gap
        cells += [number(gap.p50), number(gap.p99)] if gap else ["-", "-"]
    cells += [_ratio(level, _same(level, found, reference)) for reference in REFERENCES]
    late = number(level.lateness.p99) if level.lateness else ""
    return [*cells, f"[yellow]{late} late[/]" if level.late else late]


def _failed(level: Level) -> str:
    share = f"{level.error_rate:.1%}" if level.failed else "0"
    return f"[red]{share}[/]" if level.error_rate >= levels.ERRORS_AT_MOST else share


def _same(level: Level, found: Sequence[Level], target: str) -> Level | None:
    """What another target gave at the same level; at 70 % of the most each target has a level of its own."""
    alone = (level.case, level.loop) == ("load_messages", "open")
    same = [other for other in found if other.target == target and (alone or other.level == level.level)]
    return same[0] if same else None


def _ratio(level: Level, other: Level | None) -> str:
    """By the rate where that is what was asked for, else by the median."""
    if other is None or other.target == level.target:
        return ""
    if (level.case, level.loop) == ("load_messages", "closed"):
        return number(level.rate / other.rate) if other.rate else ""
    ours, theirs = shown(level), shown(other)
    if ours is None or theirs is None or not theirs.p50 or absolute(level) != absolute(other):
        return ""
    return number(ours.p50 / theirs.p50)


def _note(level: Level) -> str:
    """What else must be said of a level, empty where nothing must."""
    notes = [f"{count} failed: {failure[:80]}" for failure, count in level.failures.items()]
    notes += ["the generator was late: so much of the times may be its own"] if level.late else []
    notes += (
        ["the server asked a model of its own: whole times, nothing taken off"] if absolute(level) else []
    )
    return escape(f"{level.target}, {level.level:,}: {'; '.join(notes)}") if notes else ""
