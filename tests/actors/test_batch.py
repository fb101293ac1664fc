import asyncio

import anyio
import anyio.lowlevel
import pytest

from actors.batch import Batcher
from actors.errors import DrainingError


class Commits:
    """A commit function that waits to be let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = anyio.Semaphore(0)

    async def __call__(self, batch: list[str]) -> list[str | Exception]:
        self.batches.append(batch)
        await self.gate.acquire()
        return [ValueError(item) if item.startswith("bad") else item.upper() for item in batch]


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_what_arrives_during_a_commit_is_the_next_batch() -> None:
    commits = Commits()
    batcher: Batcher[str, str] = Batcher(commits, key=lambda s: s)
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(batcher.run())
        first = group.create_task(batcher.submit("a"))
        await settle()
        rest = [group.create_task(batcher.submit(s)) for s in "bcd"]
        await settle()
        assert commits.batches == [["a"]]
        commits.gate.release()
        commits.gate.release()
        assert await first == "A"
        assert [await t for t in rest] == ["B", "C", "D"]
        assert commits.batches == [["a"], ["b", "c", "d"]]
        runner.cancel()


async def test_one_key_is_in_a_batch_at_most_once_and_in_order() -> None:
    commits = Commits()
    batcher: Batcher[str, str] = Batcher(commits, key=lambda s: s[0])
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(batcher.run())
        tasks = [group.create_task(batcher.submit(s)) for s in ("a1", "a2", "b1", "a3", "b2")]
        for _ in range(3):
            commits.gate.release()
        await asyncio.wait(tasks)
        assert commits.batches == [["a1", "b1"], ["a2", "b2"], ["a3"]]
        runner.cancel()


async def test_each_item_gets_its_own_result_or_error() -> None:
    commits = Commits()
    batcher: Batcher[str, str] = Batcher(commits, key=lambda s: s)
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(batcher.run())
        good = group.create_task(batcher.submit("good"))

        async def bad() -> None:
            with pytest.raises(ValueError, match="bad"):
                await batcher.submit("bad")

        failing = group.create_task(bad())
        commits.gate.release()
        assert await good == "GOOD"
        await failing
        runner.cancel()


async def test_an_item_cancelled_while_it_waits_is_never_committed() -> None:
    commits = Commits()
    batcher: Batcher[str, str] = Batcher(commits, key=lambda s: s)
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(batcher.run())
        first = group.create_task(batcher.submit("a"))
        await settle()
        second = group.create_task(batcher.submit("b"))
        await settle()
        second.cancel()
        commits.gate.release()
        commits.gate.release()
        await first
        await settle()
        assert commits.batches == [["a"]]
        runner.cancel()


async def test_whoever_waits_when_the_batcher_stops_is_told() -> None:
    commits = Commits()
    batcher: Batcher[str, str] = Batcher(commits, key=lambda s: s)
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(batcher.run())

        async def waits(item: str) -> None:
            with pytest.raises(DrainingError):
                await batcher.submit(item)

        group.create_task(waits("a"))
        await settle()
        group.create_task(waits("b"))
        await settle()
        runner.cancel()
    with pytest.raises(DrainingError):
        await batcher.submit("c")
