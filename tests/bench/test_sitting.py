"""How cases are run: in turns, each by itself, and what a sitting keeps of them."""

from collections.abc import Callable
from typing import Any

import pytest

from bench import sitting
from bench.case import Bench, Case, Effort, Figures
from bench.loaded import Floor
from bench.sitting import Plan


def case(name: str, measure: Callable[[Any, Bench], Figures], **more: Any) -> Case:
    return Case(name=name, rows=(), measure=measure, on=("floor",), run_s={"floor": 2.0}, **more)


@pytest.mark.timeout(60)
def test_each_case_gets_its_runs_and_one_that_fails_takes_no_other_along() -> None:
    tried = list[str]()

    def fails(target: Floor, bench: Bench) -> Figures:
        tried.append("fails")
        raise RuntimeError("no answer")

    def works(target: Floor, bench: Bench) -> Figures:
        tried.append("works")
        with bench.bar("seeding", 2) as done:
            done(2)
        return {"x": len(tried)}

    cases = [case("fails", fails), case("works", works), case("once", works, most_runs=1)]
    found = sitting.run(Plan(cases=cases, names=["floor"], effort=Effort(runs=3)))
    assert tried == ["fails", *["works"] * 4]
    assert found.measured == {
        "fails": {},
        "works": {"floor": [{"x": 2}, {"x": 3}, {"x": 4}]},
        "once": {"floor": [{"x": 5}]},
    }
    (error,) = found.errors
    assert "fails on floor" in error
    assert "no answer" in error
    assert [(one.case, one.runs, one.planned_s) for one in found.taken] == [
        ("fails", 3, 6.0),
        ("works", 3, 6.0),
        ("once", 1, 2.0),
    ]
    assert all(one.took_s >= 0 for one in found.taken)
    assert len(found.calibration_ms) == len(tried)
