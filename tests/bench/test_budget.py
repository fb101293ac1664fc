"""How long a sitting is planned to take, and what it says it took."""

import pytest
from rich.console import Console

from bench import budget
from bench.budget import BOUND_S, Taken
from bench.case import Case, Effort
from bench.cases import CASES

FULL = Effort()
TARGETS = {"table": ("relay", "ours"), "load": ("floor", "relay", "ours"), "parts": ("ours",)}
CASE = Case(
    name="one",
    rows=(),
    measure=lambda *_: {},
    most_runs=3,
    run_s={"relay": 2.0, "ours": 3.0},
    once_s={"ours": 10.0},
)


@pytest.mark.parametrize("suite", TARGETS)
def test_a_suite_is_planned_to_end_within_ten_minutes_at_full_effort(suite: str) -> None:
    seconds = budget.whole([case for case in CASES if case.suite == suite], FULL, TARGETS[suite])
    assert seconds is not None
    assert 60 < seconds <= BOUND_S


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_has_a_plan_for_each_of_its_targets(case: Case) -> None:
    assert set(case.run_s) == set(case.on)
    assert all(seconds > 0 for seconds in case.run_s.values())
    assert set(case.once_s) <= set(case.on)


def test_every_row_gets_five_runs_unless_its_case_says_fewer() -> None:
    assert FULL.runs == 5
    assert {case.name for case in CASES if case.suite == "table" and case.most_runs is None} >= {
        "step",
        "tool",
        "crowd",
        "first_token",
        "tokens",
        "create",
        "ws_first_token",
    }


def test_what_is_made_once_counts_once_and_runs_count_on_the_targets_that_are_there() -> None:
    assert budget.planned(CASE, FULL, ["relay", "ours"]) == 3 * (2 + 3) + 10
    assert budget.planned(CASE, Effort(runs=1), ["ours"]) == 13
    assert budget.planned(CASE, Effort(runs=1), ["relay", "floor"]) == 2
    assert budget.planned(CASE, Effort(quick=True), ["ours"]) is None


def test_the_plan_is_said_in_words_and_a_quick_look_has_none() -> None:
    said = budget.words([CASE], FULL, ["relay", "ours"])
    assert f"{25 + sum(budget.START_S.values()):.0f} s" in said
    assert "one 3 x 8" in said
    assert budget.words([CASE], Effort(quick=True), ["ours"]) == ""


def test_what_was_taken_stands_beside_the_plan() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed below
    console.print(budget.table([Taken("one", 3, 25.0, 31.6), Taken("two", 1, None, 4.0)]))
    console.file.close()
    one, two = (line.split() for line in console.export_text().splitlines() if "│" in line)
    assert [word for word in one if word != "│"] == ["one", "3", "25", "32"]
    assert [word for word in two if word != "│"] == ["two", "1", "4"]
