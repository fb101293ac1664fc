"""Group commit: while one batch is under way the next one gathers; there is no timer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from actors.errors import DrainingError

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Hand items to `commit` in batches of at most one per key, in order of submission.

    `commit` returns one result or exception per item; what it raises itself every item gets.
    The queue is bounded by its callers: each actor has one step and each socket one request in it.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        *,
        key: Callable[[T], object],
        limit: int = 64,
    ) -> None:
        self._commit = commit
        self._key = key
        self._limit = limit
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    async def submit(self, item: T) -> R:
        """Return the item's result once its batch is over.

        Cancelling while the item waits takes it back; once its batch is under way it goes on.
        """
        if self._closed:
            raise DrainingError
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Commit batches until cancelled; whoever still waits then gets `DrainingError`."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._take():
                    await self._settle(batch)
        finally:
            self._closed = True
            for _, future in self._queue:
                if not future.done():
                    future.set_exception(DrainingError())
            self._queue.clear()

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        """Return the next batch; a second item of one key waits for the batch after."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        later: list[tuple[T, asyncio.Future[R]]] = []
        keys: set[object] = set()
        while self._queue and len(batch) < self._limit:
            item, future = self._queue.popleft()
            if future.cancelled():
                continue
            if (key := self._key(item)) in keys:
                later.append((item, future))
                continue
            keys.add(key)
            batch.append((item, future))
        self._queue.extendleft(reversed(later))
        return batch

    async def _settle(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results: Sequence[R | Exception] = await self._commit([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - the boundary of the batch: each submitter gets it
            results = [error] * len(batch)
        except BaseException:  # cancelled in mid-commit: whoever waits is told before it is passed on
            for _, future in batch:
                if not future.done():
                    future.set_exception(DrainingError())
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
