"""The cases of single parts run, with little effort, against servers of their own, and fill their rows."""

import math

import pytest

from bench.case import Bench, Case, turns
from bench.cases import CASES, paced, search
from bench.targets import Wakeful

PARTS = [case for case in CASES if case.suite == "parts"]
# What no machine does: a figure outside of this is in another unit, or of something else.
SANE = {"ms": (-500, 60_000), "µs": (-5_000, 20_000), "KiB": (-200, 2_000), "s": (0, 120), "": (0, 10_000)}
UNMEASURED = set(search.SIZES) - set(search.QUICK_SIZES)  # the larger sizes take minutes


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", PARTS, ids=lambda case: case.name)
def test_a_case_fills_its_rows_in_their_units(case: Case, ready: tuple[Wakeful, Bench]) -> None:
    figures = {key: value for turn in turns(case.measure(*ready)) for key, value in turn.items()}
    assert all(math.isfinite(value) for value in figures.values())
    left_out = {key for size in UNMEASURED for key in (f"_{size}",)} if case is search.CASE else set[str]()
    for row in case.rows:
        if any(row.key.endswith(size) for size in left_out):
            continue
        low, high = SANE[row.unit]
        assert low <= figures[row.key] <= high, (row.key, figures[row.key])
    for exact in ("faults", "lost_1", "lost_100", "lost_1000"):
        assert figures.get(exact, 0) == 0
    if case.name == "checkpoint":
        assert figures["batch_1"] == figures["most_1"] == 1, "one agent shares its commits with nobody"
        assert figures["batch_128"] > 1, "many agents share them"
        assert figures["accept_batch_1"] == figures["accept_most_1"] == 1
        assert figures["accept_batch_128"] > 1, "commands that come together are accepted together"
        assert figures["accept_p50_1"] > figures["bare"] / 10
    if case.name == "paced":
        for rate in paced.MESSAGES_S:  # each agent waits a second for the model, at least
            assert 0 < figures[f"rate_{rate}"] <= rate * 2, "a stretch of a second has two rounds at most"
        assert figures["tokens"] == paced.STREAMS / paced.GAP_S
    if case.name == "cold":
        assert figures["cold_10000"] > figures["hot_10000"]


def test_they_stay_out_of_the_default_table() -> None:
    assert {case.name for case in PARTS} >= {
        "asleep",
        "cold",
        "checkpoint",
        "fan_out",
        "search",
        "killed",
        "sdk",
    }
    assert all(case.on == ("ours",) for case in PARTS)
