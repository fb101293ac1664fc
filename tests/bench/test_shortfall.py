"""Where a row fails, the phases that hold the rest are named."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import __main__
from bench.case import NO_PHASE, WRITES, Case
from bench.cases import CASES
from bench.explain import PHASES
from bench.report import Judged, Report, Seen
from bench.shortfall import lines

OURS = {
    "accept": 2.0,
    "prompt": 0.4,
    "request sent": 0.3,
    "first token": 1.2,
    "checkpoint": 3.0,
    "delivery": 9.0,
}
RELAY = {"accept": 0.9, "first token": 1.0, "checkpoint": 1.1}


def row(case: str, *, passed: bool | None, **more: Any) -> Judged:
    seen = Seen(1, 1, 1, [1])
    whole: dict[str, Any] = {"figure": 1, "relay_then": 1, "allowed": 1, "at_least": False, "title": "t"}
    whole |= more
    return Judged(case=case, key="k", unit="ms", ours=seen, relay=seen, passed=passed, **whole)


def report(*rows: Judged, phases: dict[str, Any], relay: dict[str, Any]) -> Report:
    whole: dict[str, Any] = {"machine": {}, "settings": {}, "started_at": "", "seconds": 1, "load_before": 0}
    whole |= {"calibration_ms": [], "figures": {}, "errors": []}
    return Report(**whole, rows=list(rows), phases=phases, relay_phases=relay)


def test_the_three_phases_with_the_most_beyond_the_relay_are_named_in_their_order() -> None:
    failed = row("step", passed=False)
    (said,) = lines(report(failed, failed, phases={"step": [OURS]}, relay={"step": [RELAY]}))
    assert said.startswith("step fails (t; t): a message takes 6.9 ms in phases, the relay's 3 ms (medians);")
    assert (
        "most of the rest: checkpoint 3 (relay 1.1), accept 2 (relay 0.9), first token 1.5 (relay 1)." in said
    )
    assert "bench explain RUN" in said


def test_a_case_that_the_relay_does_not_do_has_its_longest_phases_but_the_models() -> None:
    (said,) = lines(report(row("ws", passed=False), phases={"ws": [OURS]}, relay={}))
    assert "most of the rest: checkpoint 3, accept 2, prompt 0.4." in said


def test_what_is_not_in_the_time_of_a_message_is_not_blamed_on_one() -> None:
    (said,) = lines(report(row("c", passed=False), phases={"c": [RELAY]}, relay={"c": [RELAY]}))
    assert "no phase of it takes longer here" in said


def test_a_row_that_is_spent_in_some_phases_is_explained_by_those_and_by_what_is_next() -> None:
    failed = row("step", passed=False, title="Postgres CPU", within=WRITES, lever="fewer rows")
    (said,) = lines(report(failed, phases={"step": [OURS]}, relay={"step": [RELAY]}))
    assert said.startswith("step fails (Postgres CPU): ")
    assert "of accept, checkpoint it is: checkpoint 3 (relay 1.1), accept 2 (relay 0.9)." in said
    assert "first token" not in said
    assert "Next: fewer rows." in said


def test_what_is_spent_in_no_phase_is_not_explained_by_one() -> None:
    failed = row("ws", passed=False, title="CPU per frame", within=NO_PHASE, lever="fewer calls")
    (said,) = lines(report(failed, phases={"ws": [OURS]}, relay={}))
    assert "checkpoint" not in said
    assert "no phase of a message. Next: fewer calls." in said


def test_rows_of_a_case_that_are_spent_elsewhere_have_lines_of_their_own() -> None:
    rows = row("step", passed=False, title="a"), row("step", passed=False, title="b", within=WRITES)
    said = lines(report(*rows, phases={"step": [OURS]}, relay={"step": [RELAY]}))
    assert [line.partition(":")[0] for line in said] == ["step fails (a)", "step fails (b)"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_phases_that_rows_name_are_phases(case: Case) -> None:
    names = {name for name, _, _ in PHASES}
    assert all(set(row.within or ()) <= names for row in case.rows)


def test_the_command_explains_the_json_of_a_sitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench-x.json"
    whole = report(row("step", passed=False), phases={"step": [OURS]}, relay={"step": [RELAY]})
    path.write_bytes(msgspec.json.encode(whole))
    assert __main__.main(["explain", str(path)]) == 0
    assert capsys.readouterr().out.startswith("step fails (t): ")
    path.write_text("{}")
    assert __main__.main(["explain", str(path)]) == 1
    assert __main__.main(["explain", str(tmp_path / "none.json")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_nothing_is_said_of_rows_that_pass_or_have_no_messages() -> None:
    rows = row("step", passed=True), row("info", passed=None), row("silent", passed=False)
    assert lines(report(*rows, phases={"step": [OURS]}, relay={})) == []
