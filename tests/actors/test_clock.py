"""The clock: ids, and the seam that tests use."""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from actors import clock


class Stopped:
    """A clock that only moves by sleeping."""

    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, tzinfo=UTC)
        self.passed = 0.0

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds

    def uuid(self) -> str:
        return "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def stopped() -> Iterator[Stopped]:
    mine = Stopped()
    previous = clock.replace(mine)
    yield mine
    assert clock.replace(previous) is mine


def test_an_id_is_a_prefix_and_a_version_4_uuid() -> None:
    for _ in range(2 * clock.IDS_PER_READ):
        prefix, _, text = clock.new_id("message").partition("-")
        assert prefix == "message"
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 4
        assert parsed.variant == uuid.RFC_4122


def test_an_id_begins_with_the_millisecond_at_which_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, made_ms = clock.SystemClock(), [1_893_456_000_123, 1_893_456_000_124, 2**47]
    taken: list[str] = []
    for at in made_ms:
        monkeypatch.setattr(time, "time_ns", lambda at=at: at * 1_000_000 + 999_999)
        taken += [mine.uuid() for _ in range(2)]
    assert [uuid.UUID(one).int >> 80 for one in taken] == [at for at in made_ms for _ in range(2)]
    assert len({one[13:] for one in taken}) == 6
    assert taken[1] < taken[2] < taken[4]


def test_ids_taken_by_several_threads_are_all_different() -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: [clock.new_id("x") for _ in range(2_000)], range(8)))
    assert len({one for some in taken for one in some}) == 16_000


def test_a_forked_child_does_not_repeat_its_parent_s_ids() -> None:
    mine = clock.SystemClock()
    mine.uuid()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, mine.uuid().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 36).decode() != mine.uuid()
    os.close(reader)
    os.close(writer)


def test_now_is_utc_and_monotonic_time_does_not_go_back() -> None:
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.monotonic() <= clock.monotonic()


async def test_a_replaced_clock_is_the_clock_of_the_process(stopped: Stopped) -> None:
    await clock.sleep(90)
    assert clock.now() == stopped.at + timedelta(seconds=90)
    assert clock.monotonic() == 90
    assert clock.new_id("run") == "run-00000000-0000-4000-8000-000000000001"


def test_epochs_do_not_repeat_though_they_are_made_in_one_moment() -> None:
    epochs = [clock.new_epoch() for _ in range(500)]
    assert len(set(epochs)) == 500
    assert len({epoch[:3] for epoch in epochs}) > 100  # nothing in them is the time
