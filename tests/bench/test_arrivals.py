"""When requests of an open loop are meant to be sent."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.arrivals import Arrivals, times


@given(st.floats(0.5, 500), st.floats(0.5, 20))
def test_constant_arrivals_are_evenly_apart(rate: float, seconds: float) -> None:
    found = times(Arrivals(rate=rate, seconds=seconds, kind="constant"))
    assert len(found) == max(1, round(rate * seconds))
    assert all(after - before == pytest.approx(1 / rate) for before, after in pairwise(found))


@given(st.floats(0.5, 500), st.floats(0.5, 20), st.integers(0, 9))
def test_poisson_arrivals_are_in_order_in_time_and_the_same_for_a_seed(
    rate: float, seconds: float, seed: int
) -> None:
    arrivals = Arrivals(rate=rate, seconds=seconds, seed=seed)
    found = times(arrivals)
    assert found[0] == 0
    assert found == sorted(found)
    assert all(at < seconds for at in found)
    assert found == times(arrivals)


def test_poisson_arrivals_are_as_many_as_the_rate_says_and_come_in_bunches() -> None:
    found = times(Arrivals(rate=100, seconds=100))
    assert len(found) == pytest.approx(10_000, rel=0.05)
    gaps = [after - before for before, after in pairwise(found)]
    close = sum(gap < 0.001 for gap in gaps) / len(gaps)
    assert close == pytest.approx(0.095, rel=0.2)  # 1 - exp(-100 * 0.001)
    assert found != times(Arrivals(rate=100, seconds=100, seed=2))
