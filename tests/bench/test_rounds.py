"""The window of a closed loop, by whole rounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rounds import Rounds

S = 1_000_000_000


def rounds(size: int, *, least: int = 3, warm: float = 0.5, until: float = 2.0, last: float = 8.0) -> Rounds:
    ends = {"warm_ns": round(warm * S), "until_ns": round(until * S), "last_ns": round(last * S)}
    return Rounds(size, least=least, started_ns=0, **ends)


def answer(window: Rounds, times: list[float]) -> None:
    for at in times:
        if not window.over(round(at * S)):
            window.answered(round(at * S))


def test_waves_that_take_longer_than_the_window_are_counted_whole() -> None:
    """512 lines whose waves take 1.7 s: in a window from 0.5 to 2 s nothing was both said and answered."""
    window = rounds(512)
    answer(window, [wave * 1.7 + place / 1000 for wave in range(1, 6) for place in range(512)])
    assert window.window is not None
    began, ended = window.window
    assert 3 * 512 / ((ended - began) / S) == pytest.approx(512 / 1.7, rel=1e-6)


def test_the_round_during_which_it_is_warm_is_left_out() -> None:
    window = rounds(2, least=1, warm=1.0, until=1.5)
    answer(window, [0.1, 0.2, 0.9, 1.1, 1.3, 1.4, 1.6, 1.7])
    assert window.window == (round(1.1 * S), round(1.7 * S))
    assert window.over(round(1.71 * S))


def test_without_warming_it_begins_at_once() -> None:
    window = rounds(1, least=1, warm=0.0, until=0.001)
    answer(window, [0.4])
    assert window.window == (0, round(0.4 * S))
    assert window.over(round(0.41 * S))


def test_where_not_one_round_is_answered_there_is_no_window() -> None:
    window = rounds(8)
    answer(window, [1.0] * 7 + [9.0])
    assert window.window is None
    assert window.over(round(8.1 * S))
    assert not window.over(round(7.9 * S))


def test_where_time_is_up_the_whole_rounds_until_then_count() -> None:
    window = rounds(2)
    answer(window, [1.0, 1.0, 4.0, 4.5, 7.0, 8.5])
    assert window.window == (1 * S, round(4.5 * S))


@given(st.integers(1, 64), st.lists(st.floats(0.001, 0.5), min_size=1, max_size=400))
def test_a_window_holds_whole_rounds_within_its_time(size: int, gaps: list[float]) -> None:
    window, at, times = rounds(size), 0.0, list[float]()
    for gap in gaps:
        at += gap
        times.append(at)
    answer(window, times)
    if window.window is None:
        return
    began, ended = window.window
    assert 0.5 * S <= began < ended <= 8 * S
    inside = sum(began < round(at * S) <= ended for at in times)
    assert inside % size == 0
    assert inside >= size
