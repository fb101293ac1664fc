"""The schedule of repetitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ModelError
from actors.llm import retry


def failed(*, retryable: bool = True, retry_after: float | None = None) -> ModelError:
    return ModelError("no", retryable=retryable, retry_after=retry_after)


def test_at_most_three_repetitions_with_growing_delays() -> None:
    delays = [retry.delay(attempt, failed(), jitter=lambda: 0.0) for attempt in range(1, 6)]
    assert delays == [0.5, 1.0, 2.0, None, None]


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_what_cannot_cure_itself_is_not_repeated(attempt: int) -> None:
    assert retry.delay(attempt, failed(retryable=False, retry_after=1)) is None


def test_the_provider_s_wish_is_a_lower_bound_up_to_thirty_seconds() -> None:
    assert retry.delay(1, failed(retry_after=7), jitter=lambda: 0.0) == 7
    assert retry.delay(3, failed(retry_after=0.1), jitter=lambda: 0.0) == 2
    assert retry.delay(1, failed(retry_after=3600), jitter=lambda: 0.0) == 30


@given(st.integers(1, 3), st.floats(0, 1e9) | st.none(), st.floats(0, 1))
def test_jitter_only_adds_at_most_a_quarter(attempt: int, wish: float | None, luck: float) -> None:
    least = retry.delay(attempt, failed(retry_after=wish), jitter=lambda: 0.0)
    delay = retry.delay(attempt, failed(retry_after=wish), jitter=lambda: luck)
    assert least is not None
    assert delay is not None
    assert least <= delay <= least * 1.25 <= 37.5
