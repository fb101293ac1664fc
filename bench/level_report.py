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
REASON = 100  # characters of why a message failed
TARGET_WIDTH = 38  # of `responses http://192.168.100.100:8000/v1`, so that only longer names take more lines


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
    table.add_column("target", max_width=TARGET_WIDTH, overflow="fold")
    columns = [heading, "answers/s", "failed", "p50", "p90", "p99", "p99.9", "max"]
    columns += ["gap p50", "gap p99"] if gaps else []
    for name in [*columns, "/ relay", "/ floor", "sent after, p99"]:
        table.add_column(name, justify="right")
    for level in found:
        table.add_row(*_row(level, found, gaps=gaps))
    table.caption = escape("\n".join(notes(found))) or None
    return table


def _row(level: Level, found: Sequence[Level], *, gaps: bool) -> list[str]:
    rate = "-" if level.rate is None else number(level.rate)
    cells = [level.target, f"{level.level:,}", rate, _failed(level)]
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
    """What another target gave at the same level; at 70 % of the most each target has a level of its own.

    Where a target has one door that streams and one that does not, it is the one that answers as this does.
    """
    alone = (level.case, level.loop) == ("load_messages", "open")
    names = (target, f"{target}, SSE") if level.first is None else (f"{target}, SSE", target)
    same = {
        other.target: other
        for other in reversed(found)
        if other.target in names and (alone or other.level == level.level)
    }
    return next((same[name] for name in names if name in same), None)


def _ratio(level: Level, other: Level | None) -> str:
    """By the rate where that is what was asked for, else by the median."""
    if other is None or other.target.partition(",")[0] == level.target.partition(",")[0]:
        return ""
    if (level.case, level.loop) == ("load_messages", "closed"):
        return number(level.rate / other.rate) if level.rate is not None and other.rate else ""
    ours, theirs = shown(level), shown(other)
    if ours is None or theirs is None or not theirs.p50 or absolute(level) != absolute(other):
        return ""
    return number(ours.p50 / theirs.p50)


def notes(found: Sequence[Level]) -> list[str]:
    """What else must be said of levels: each thing once, with the targets and levels that it is true of."""
    said: dict[str, dict[str, list[str]]] = {}
    for level in found:
        for what, more in _notes(level, found):
            said.setdefault(what, {}).setdefault(level.target, []).append(f"{level.level:,}{more}")
    return [
        f"{what}: " + "; ".join(f"{target} at {', '.join(at)}" for target, at in where.items())
        for what, where in said.items()
    ]


def _notes(level: Level, found: Sequence[Level]) -> list[tuple[str, str]]:
    """Each note of a level, and what to say beside the level."""
    noted: list[tuple[str, str]] = []
    if level.loop == "closed" and level.rate is None and not level.why_collapsed:
        noted.append(("not measured, not one round of answers came in time", ""))
    if why := _collapsed(level, found):
        noted.append(("collapsed, no higher level was tried", f" ({why})"))
    noted += [(f"failed, {reason[:REASON]}", f" ({count})") for reason, count in level.failures.items()]
    if level.late:
        noted.append(("the generator was late: so much of the times may be its own", ""))
    if absolute(level):
        noted.append(("the server asked a model of its own: whole times, nothing taken off", ""))
    return noted


def _collapsed(level: Level, found: Sequence[Level]) -> str:
    """Why a climb ended with this level, empty where it did not."""
    if (level.case, level.loop) == ("load_first_token", "open"):
        return level.why_collapsed
    if (level.case, level.loop) != ("load_messages", "closed"):
        return ""
    if level.rate is None:
        return level.why_collapsed
    lower = [other for other in found if other.target == level.target and other.level < level.level]
    best = max((other.rate or 0.0 for other in lower), default=0.0)
    fewer = f"{number(level.rate)}/s, less than half of {number(best)}/s"
    return level.why_collapsed or (fewer if level.rate < levels.COLLAPSED * best else "")
