"""A timer of an event loop that counts less than milliseconds."""

import asyncio
import time

import pytest

from bench.alarm import Alarm


async def test_it_rings_when_the_time_has_come_and_not_before() -> None:
    with Alarm() as alarm:
        for _ in range(20):
            wanted = time.monotonic_ns() + 300_000
            await alarm.wait_until(wanted)
            assert time.monotonic_ns() >= wanted


async def test_a_time_that_has_passed_is_not_waited_for() -> None:
    with Alarm() as alarm:
        await asyncio.wait_for(alarm.wait_until(time.monotonic_ns() - 1), 5)


async def test_a_wait_that_was_cancelled_leaves_the_timer_usable() -> None:
    with Alarm() as alarm:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(alarm.wait_until(time.monotonic_ns() + 10**12), 0.01)
        await asyncio.wait_for(alarm.wait_until(time.monotonic_ns() + 10**6), 5)
