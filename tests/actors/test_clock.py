"""The clock: ids, and the seam that tests use."""

import os
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
