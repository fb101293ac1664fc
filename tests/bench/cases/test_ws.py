"""The websocket's cases run, with little effort, against a server of their own, and fill their rows."""

import math

import pytest

from bench.case import Bench, Case, turns
from bench.cases import CASES
from bench.targets import Wakeful

UNITS = {
    "ws_first_token": {"p50": "ms", "p99": "ms"},
    "ws_tokens": {"cpu_1": "µs", "cpu_200": "µs", "bare_1": "µs", "bare_200": "µs"},
    "ws_burst": {"cpu_1": "µs", "bare_1": "µs", "cpu_200": "µs", "bare_200": "µs"},
    "ws_memory": {"connection": "KiB"},
    "ws_stalled": {"held": "MiB", "ratio": "", "p99": "ms"},
    "ws_resume": {"running": "ms", "ended": "ms", "inexact": ""},
}
# What no machine does: a figure outside of this is in another unit, or of something else.
SANE = {"ms": (0.01, 5_000), "µs": (-200, 5_000), "KiB": (0.5, 500), "MiB": (-1, 20), "": (0, 100_000)}


@pytest.mark.alone
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in UNITS], ids=lambda case: case.name)
def test_a_case_fills_its_rows_in_their_units(case: Case, ready: tuple[Wakeful, Bench]) -> None:
    figures = {key: value for turn in turns(case.measure(*ready)) for key, value in turn.items()}
    assert all(math.isfinite(value) for value in figures.values())
    for row in case.rows:
        low, high = SANE[row.unit]
        assert low <= figures[row.key] <= high, (row.key, figures[row.key])
    assert figures.get("inexact", 0) == figures.get("lost", 0) == 0
    units = {row.key: row.unit for row in case.rows}
    assert units.items() >= UNITS[case.name].items()
