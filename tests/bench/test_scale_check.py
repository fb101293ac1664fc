"""The model beside a measured load."""

from typing import Any

import msgspec
import pytest

from bench import costs, scale_check
from bench.cases import paced
from bench.scale_check import GAP_S, SHAPES, TURN_S, Compared, Load
from tests.bench.recorded import RECORDED


def fitted() -> costs.Costs:
    return costs.fit(costs.read(RECORDED.read_bytes()))


def load(**changes: Any) -> Load:
    same = Load(shape=SHAPES[0], seconds=10.0, messages=200, server=1.0, postgres=0.2)
    return msgspec.structs.replace(same, **changes)


def test_each_round_is_predicted_from_the_load_that_it_really_was() -> None:
    found = scale_check.compare(fitted(), [load(), load(messages=400, seconds=20.0, server=3.0)])
    server, postgres = found.compared
    assert (server.measured, postgres.measured) == ((1.0, 3.0), (0.2, 0.2))
    for row in (server, postgres):
        assert row.predicted[1] == pytest.approx(2 * row.predicted[0])
    assert server.errors == pytest.approx([server.predicted[0] - 1, server.predicted[1] / 3 - 1])
    assert found.shape == SHAPES[0]
    demand = scale_check.demand_of(load())
    assert (demand.agents, demand.watchers) == (SHAPES[0].agents, SHAPES[0].watchers)
    assert demand.messages_per_second == 20


def test_the_median_of_the_rounds_counts() -> None:
    row = Compared("server", (1.0, 1.0, 3.0), (1.0, 0.8, 1.0))
    assert row.error == pytest.approx(0.25)
    assert row.holds


@pytest.mark.parametrize(
    ("predicted", "measured", "holds"),
    [(1.0, 1.0, True), (1.3, 1.0, True), (1.0, 1.3, True), (1.4, 1.0, False), (1.0, 1.4, False)],
)
def test_the_model_holds_within_a_third_both_ways(predicted: float, measured: float, holds: bool) -> None:
    assert Compared("server", (predicted,), (measured,)).holds is holds


def test_what_does_not_hold_says_which_way() -> None:
    """Too little is what hurts a plan, so that the words name it."""
    assert Compared("server", (1.0,), (1.1,)).verdict == "pass"
    assert Compared("server", (1.0,), (2.0,)).verdict == "FAIL, plans too little"
    assert Compared("server", (2.0,), (1.0,)).verdict == "FAIL, plans too much"


def test_the_loads_are_between_those_that_the_costs_were_measured_at() -> None:
    """A load at which a cost was measured would find that cost again, whatever the model."""
    small, large = (shape.agents / TURN_S for shape in SHAPES)
    slow, quick = paced.MESSAGES_S
    assert 2 * slow < small < large < quick
    assert large > 2.5 * small
    assert GAP_S / SHAPES[0].agents < GAP_S / paced.STREAMS, "its tokens come closer together"


def test_costs_of_a_busy_machine_or_a_quick_look_are_none_to_judge_by() -> None:
    assert scale_check.doubt(0.2, quick=False) == ""
    assert "load average of 7.1" in scale_check.doubt(7.1, quick=False)
    assert "quick look" in scale_check.doubt(0.2, quick=True)


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_real_loads_are_within_a_factor_of_the_model() -> None:
    """On a shared machine the error itself is no test; that nothing is left out or in another unit, is."""
    found = scale_check.check(fitted(), rounds=1, seconds=4)
    assert [one.shape for one in found] == list(SHAPES)
    for one in found:
        (measured,) = one.loads
        assert measured.seconds >= 4
        assert measured.messages > one.shape.agents
        for row in one.compared:
            ((predicted,), (spent,)) = row.predicted, row.measured
            assert spent > 0
            assert predicted / 4 < spent < predicted * 4, row
