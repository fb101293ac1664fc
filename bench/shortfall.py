"""Says where a row fails which phase holds the rest, this server's beside the relay's, and what is next."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import explain
from bench.report import Report, number
from bench.stacks import middle

MOST = 3  # phases that are named
MODEL = ("first token", "stream", "tools")  # the pace of these is not the server's
FROM_MS = 0.05  # less than that is no part of a shortfall
WORDS = "`python -m bench explain RUN` shows one run, `--profile --only {case}` the functions."


def main(arguments: Sequence[str]) -> int:
    """Explain a sitting by its JSON, or a run. Returns 1 where it cannot be."""
    if len(arguments) != 1 or not arguments[0].endswith(".json"):
        return explain.main(arguments)
    try:
        said = lines(msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Report))
    except (OSError, msgspec.DecodeError) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    print("\n".join(said) if said else "no row fails whose messages' phases are known")
    return 0


def lines(report: Report) -> list[str]:
    """Say of each case with rows that failed what holds the rest, and what would make it less.

    One line for rows of a case that are spent in the same phases; empty where there is nothing to say.
    """
    found: dict[tuple[str, tuple[str, ...] | None, str], list[str]] = {}
    for row in report.rows:
        if row.passed is False:
            within = None if row.within is None else tuple(row.within)
            found.setdefault((row.case, within, row.lever), []).append(row.title)
    said = {key: line(report, key[0], key[1]) for key in found}
    return [
        f"{case} fails ({'; '.join(titles)}): {said[case, within, lever]}"
        + (f" Next: {lever}." if lever else "")
        + f" {WORDS.format(case=case)}"
        for (case, within, lever), titles in found.items()
        if said[case, within, lever] or lever
    ]


def line(report: Report, case: str, within: Sequence[str] | None = None) -> str:
    """Where the time of a case's messages went that the relay does not need, empty where it is not known.

    Of the phases `within` alone, where they are named.
    """
    if within is not None and not within:
        return "that is spent in no phase of a message."
    ours, theirs = (middle(splits.get(case, [])) for splits in (report.phases, report.relay_phases))
    if not ours:
        return ""
    ours.pop("delivery", None)  # it overlaps the stream
    if "request sent" in ours:  # which the relay's first token holds
        ours["first token"] = ours.get("first token", 0.0) + ours.pop("request sent")
    whole = f"a message takes {number(sum(ours.values()))} ms in phases"
    if theirs:
        whole += f", the relay's {number(sum(theirs.values()))} ms (medians)"
    known = [name for name in ours if within is None or name in within]
    own = known if theirs else [name for name in known if name not in MODEL]
    more = {name: ours[name] - theirs.get(name, 0.0) for name in own}
    most = [name for name in sorted(more, key=more.__getitem__, reverse=True) if more[name] > FROM_MS][:MOST]
    if not most:
        return f"{whole}, and no phase of it takes longer here: what fails is not in the time of a message."
    held = "most of the rest" if within is None else f"of {', '.join(known)} it is"
    return f"{whole}; {held}: {', '.join(_beside(name, ours, theirs) for name in most)}."


def _beside(name: str, ours: dict[str, float], theirs: dict[str, float]) -> str:
    other = f" (relay {number(theirs[name])})" if name in theirs else ""
    return f"{name} {number(ours[name])}{other}"
