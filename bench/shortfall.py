"""Says which phase holds the rest where a row fails: this server's phases beside the relay's."""

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
    """One line for each case with a row that failed and messages whose phases are known, in its order."""
    failed = dict.fromkeys(row.case for row in report.rows if row.passed is False)
    found = {case: line(report, case) for case in failed}
    return [f"{case} fails: {said} {WORDS.format(case=case)}" for case, said in found.items() if said]


def line(report: Report, case: str) -> str:
    """Where the time of a case's messages went that the relay does not need, empty where it is not known."""
    ours, theirs = (middle(splits.get(case, [])) for splits in (report.phases, report.relay_phases))
    if not ours:
        return ""
    ours.pop("delivery", None)  # it overlaps the stream
    if "request sent" in ours:  # which the relay's first token holds
        ours["first token"] = ours.get("first token", 0.0) + ours.pop("request sent")
    whole = f"a message takes {number(sum(ours.values()))} ms in phases"
    if theirs:
        whole += f", the relay's {number(sum(theirs.values()))} ms"
    own = ours if theirs else {name: took for name, took in ours.items() if name not in MODEL}
    more = {name: took - theirs.get(name, 0.0) for name, took in own.items()}
    most = [name for name in sorted(more, key=more.__getitem__, reverse=True) if more[name] > FROM_MS][:MOST]
    if not most:
        return f"{whole}, and no phase takes longer here: what fails is not in the time of a message."
    return f"{whole}; most of the rest: {', '.join(_beside(name, ours, theirs) for name in most)}."


def _beside(name: str, ours: dict[str, float], theirs: dict[str, float]) -> str:
    other = f" (relay {number(theirs[name])})" if name in theirs else ""
    return f"{name} {number(ours[name])}{other}"
