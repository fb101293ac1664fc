"""The search for the highest level of streams that is held."""

import pytest

from bench.cases.held import FIRST, LEVELS, LIMIT_MS, search


@pytest.mark.parametrize("limit", [*LEVELS, 0])
@pytest.mark.parametrize("start", range(len(LEVELS)))
def test_the_search_ends_at_the_boundary_from_any_start(limit: int, start: int) -> None:
    p99s = search(start, lambda level: LIMIT_MS if level <= limit else LIMIT_MS + 1)
    assert max((level for level, p99 in p99s.items() if p99 <= LIMIT_MS), default=0) == limit


def test_a_search_from_the_boundary_takes_two_levels() -> None:
    p99s = search(FIRST, lambda level: 0.0 if level <= LEVELS[FIRST] else 1e9)
    assert list(p99s) == [LEVELS[FIRST], LEVELS[FIRST + 1]]
