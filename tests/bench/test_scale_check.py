"""The model beside a measured load."""

import pytest

from bench import costs, scale_check
from bench.cases import paced
from bench.scale_check import GAP_S, SHAPES, TURN_S, Compared, Load
from tests.bench.recorded import RECORDED


def fitted() -> costs.Costs:
    return costs.fit(costs.read(RECORDED.read_bytes()))


def load(*, calibration_ms: float) -> Load:
    return Load(
        shape=SHAPES[0], seconds=10.0, messages=200, server=1.0, postgres=0.2, calibration_ms=calibration_ms
    )


def test_a_slower_machine_is_allowed_for() -> None:
    same, slow = (scale_check.compare(fitted(), 10.0, load(calibration_ms=ms)) for ms in (10, 15))
    assert (same.drift, slow.drift) == (1.0, 1.5)
    for at_speed, slowed in zip(same.compared, slow.compared, strict=True):
        assert at_speed.drifted == at_speed.predicted == slowed.predicted
        assert slowed.drifted == pytest.approx(1.5 * slowed.predicted)


def test_the_error_is_a_share_of_what_was_measured() -> None:
    found = scale_check.compare(fitted(), 10.0, load(calibration_ms=10))
    server, postgres = found.compared
    assert (server.measured, postgres.measured) == (1.0, 0.2)
    assert server.error == pytest.approx(server.drifted - 1)
    assert postgres.error == pytest.approx(postgres.drifted / 0.2 - 1)
    assert (found.demand.agents, found.demand.watchers) == (SHAPES[0].agents, SHAPES[0].watchers)
    assert found.demand.messages_per_second == 20


@pytest.mark.parametrize(
    ("drifted", "measured", "holds"),
    [(1.0, 1.0, True), (1.3, 1.0, True), (1.0, 1.3, True), (1.4, 1.0, False), (1.0, 1.4, False)],
)
def test_the_model_holds_within_a_third_both_ways(drifted: float, measured: float, holds: bool) -> None:
    assert Compared("server", drifted, drifted, measured).holds is holds


def test_what_does_not_hold_says_which_way() -> None:
    """Too little is what hurts a plan, so that the words name it."""
    assert Compared("server", 1.0, 1.0, 1.1).verdict == "pass"
    assert Compared("server", 1.0, 1.0, 2.0).verdict == "FAIL, plans too little"
    assert Compared("server", 2.0, 2.0, 1.0).verdict == "FAIL, plans too much"


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
    recorded = costs.read(RECORDED.read_bytes())
    found = scale_check.check(fitted(), recorded.calibration_ms, seconds=4)
    assert [one.load.shape for one in found] == list(SHAPES)
    for one in found:
        assert one.load.seconds >= 4
        assert one.load.messages > one.load.shape.agents
        for row in one.compared:
            assert row.measured > 0
            assert row.drifted / 4 < row.measured < row.drifted * 4, row
