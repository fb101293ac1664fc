import asyncio

import pytest

from actors.errors import DrainingError, NotShorterError
from actors.jobs import Job
from storage.errors import FencedError


async def test_whoever_asked_gets_the_result() -> None:
    async def work() -> int:
        return 7

    job = Job(work)
    await job.run()
    assert await job.outcome() == 7


async def test_what_the_work_raises_is_its_caller_s_and_nobody_else_s() -> None:
    async def work() -> None:
        raise NotShorterError

    job = Job(work)
    await job.run()
    with pytest.raises(NotShorterError):
        await job.outcome()


async def test_a_fault_of_the_work_is_no_fault_of_the_conversation(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ZeroDivisionError

    job = Job(work)
    await job.run()
    with pytest.raises(ZeroDivisionError):
        await job.outcome()
    assert "operation failed" in caplog.text


async def test_a_lost_agent_is_told_to_the_caller_and_ends_the_activation() -> None:
    async def work() -> None:
        raise FencedError("agent-1", 3)

    job = Job(work)
    with pytest.raises(FencedError):
        await job.run()
    with pytest.raises(FencedError):
        await job.outcome()


async def test_an_abandoned_job_says_that_it_may_be_asked_for_again() -> None:
    async def work() -> None: ...

    job = Job(work)
    job.abandon()
    with pytest.raises(DrainingError):
        await job.outcome()
    await job.run()
    job.abandon()


async def test_who_stops_waiting_does_not_stop_the_work() -> None:
    gate = asyncio.Event()
    done: list[int] = []

    async def work() -> None:
        await gate.wait()
        done.append(1)

    job = Job(work)
    async with asyncio.TaskGroup() as group:
        group.create_task(job.run())
        waiter = group.create_task(job.outcome())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.sleep(0)
        gate.set()
    assert done == [1]
