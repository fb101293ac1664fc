"""Latencies as HDR histograms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histogram import MOST_US, curve, latency


@given(st.lists(st.integers(1_000, 60_000_000_000), min_size=1, max_size=200))
def test_percentiles_are_right_to_three_digits(nanoseconds: list[int]) -> None:
    found = latency(nanoseconds)
    assert found is not None
    ordered = sorted(value / 1e6 for value in nanoseconds)
    assert found.count == len(ordered)
    assert found.max == pytest.approx(ordered[-1], rel=2e-3, abs=2e-3)
    assert found.p50 <= found.p90 <= found.p99 <= found.p99_9 <= found.max
    near = [ordered[max(0, len(ordered) // 2 - 1)], ordered[min(len(ordered) - 1, len(ordered) // 2)]]
    assert any(found.p50 == pytest.approx(value, rel=2e-3, abs=2e-3) for value in near)


def test_the_tail_is_seen_where_the_mean_hides_it() -> None:
    found = latency([1_000_000] * 995 + [500_000_000] * 5)
    assert found is not None
    assert found.p99 == pytest.approx(1, rel=2e-3)
    assert found.p99_9 == found.max == pytest.approx(500, rel=2e-3)


def test_what_is_out_of_range_is_counted_at_its_end() -> None:
    found = latency([-5_000, 10**18])
    assert found is not None
    assert found.count == 2
    assert found.max == pytest.approx(MOST_US / 1e3, rel=2e-3)
    assert latency([]) is None


def test_an_encoded_histogram_gives_its_curve() -> None:
    found = latency(range(0, 100_000_000, 100_000))
    assert found is not None
    points = curve(found.encoded)
    ranks = [rank for rank, _ in points]
    assert ranks == sorted(ranks)
    assert points[-1][0] == 100
    assert points[-1][1] == pytest.approx(found.max, rel=2e-3)
    assert min(abs(rank - 50) for rank in ranks) < 5


def test_what_is_no_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="no encoded histogram"):
        curve("nonsense")
