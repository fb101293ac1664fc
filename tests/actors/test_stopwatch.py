import time

import pytest

from actors.stopwatch import Stopwatch


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in nanoseconds, which the test sets."""
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def test_every_nanosecond_belongs_to_the_phase_it_was_spent_in(at: list[int]) -> None:
    watch = Stopwatch(queue_ns=7)
    for phase, spent in [("prompt", 10), ("first_token", 20), ("prompt", 1), ("stream", 30), (None, 1000)]:
        watch.enter(phase)  # type: ignore[arg-type]
        at[0] += spent
    watch.enter("tools")
    at[0] += 40
    watch.enter(None)
    timing = watch.timing()
    assert (timing.queue, timing.prompt, timing.first_token, timing.stream) == (7, 11, 20, 30)
    assert (timing.tools, timing.checkpoint, timing.compaction) == (40, 0, 0)


def test_a_phase_that_interrupts_another_gives_it_back(at: list[int]) -> None:
    watch = Stopwatch()
    watch.enter("tools")
    at[0] += 5
    interrupted = watch.enter("checkpoint")
    at[0] += 3
    watch.enter(interrupted)
    at[0] += 2
    assert (watch.timing().tools, watch.timing().checkpoint) == (5, 3), "what is under way is not in it"
    watch.enter(None)
    assert watch.timing().tools == 7


def test_what_came_before_the_request_was_written_was_sending_it(at: list[int]) -> None:
    watch = Stopwatch()
    watch.enter("first_token")
    at[0] += 3
    watch.sent()
    at[0] += 50
    watch.enter("stream")
    at[0] += 4
    watch.sent()  # too late to mean anything
    watch.enter(None)
    timing = watch.timing()
    assert (timing.send, timing.first_token, timing.stream) == (3, 50, 4)


def test_delivery_overlaps_the_stream_and_takes_nothing_from_it(at: list[int]) -> None:
    watch = Stopwatch(accept_ns=1, claim_ns=2)
    watch.enter("stream")
    begun = at[0]
    at[0] += 6
    watch.delivered(begun)
    at[0] += 10
    watch.enter(None)
    timing = watch.timing()
    assert (timing.delivery, timing.stream, timing.accept, timing.claim) == (6, 16, 1, 2)
