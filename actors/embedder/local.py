"""The server's side of the embedder: requests wait, go to the child in batches, and are tried again once."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio
from msgspec import Struct

from actors import clock
from actors.embedder import process
from actors.embedder.process import Child, LostError, UnusableError
from actors.errors import EmbeddingError

log = logging.getLogger("wakeful.embedder")

IDLE_SECONDS = 600.0
# A batch takes about half a second, which is what a search may have to wait for somebody's bulk insert.
BATCH_TEXTS = 32
BATCH_CHARS = 4096
# The model reads 2,032 tokens of a text; words of more than eight characters on average are rare.
TEXT_CHARS = 16_384
# Beyond this many waiting texts the next request is refused; the model needs minutes for them.
MOST_WAITING = 20_000
# A model that cannot be used is not tried again for this long: each try costs a process.
UNUSABLE_SECONDS = 60.0

Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], asyncio.Task[None] | None]


class EmbedderStatus(Struct, frozen=True, kw_only=True):
    """The local embedding model: `stopped`, `starting`, `running`, or `failed` for the `reason` given.

    It is stopped until it is wanted, and when nobody wanted it for a while. `rss_bytes` is the memory of its
    own process, which is not the server's.
    """

    state: str
    rss_bytes: int = 0
    pid: int | None = None
    reason: str | None = None


class _Request:
    """Texts of one caller, and the vectors that are there already."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.todo = deque(range(len(texts)))
        self.vectors: dict[int, tuple[float, ...]] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.losses = 0

    def fail(self, error: EmbeddingError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def give_up(self) -> None:
        """Nobody waits any more, for vectors or for an error."""
        if not self.done.cancel() and not self.done.cancelled():
            self.done.exception()


_Batch = list[tuple[_Request, int]]


class LocalEmbedder:
    """The local model. Its child starts at the first request and stops after `idle_seconds` without one.

    `spawn` runs a function as a task whose parent outlives the embedder, or returns `None` when it is over.
    """

    def __init__(
        self,
        spawn: Spawn,
        *,
        idle_seconds: float = IDLE_SECONDS,
        start: Callable[[], Coroutine[Any, Any, Child]] = process.start,
    ) -> None:
        self._spawn = spawn
        self._idle_seconds = idle_seconds
        self._start = start
        self._child: Child | None = None
        self._starting = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[_Request] = deque()
        self._asked: _Batch = []
        self._wanted = asyncio.Event()
        self._unusable: tuple[float, str] | None = None
        self._closed = False

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """Return a unit vector for each text, in order. The caller sets the deadline.

        Cancelling takes back what the child was not given yet.

        Raises:
            EmbeddingError: The model cannot be used, it died twice over these texts, too many wait, or the
                server is stopping.
        """
        if not texts:
            return []
        self._check_open(len(texts))
        request = _Request([text[:TEXT_CHARS] for text in texts])
        self._waiting.append(request)
        self._wanted.set()
        if self._task is None or self._task.done():
            self._task = self._spawn(self._run)
        if self._task is None:
            self._waiting.remove(request)
            raise _stopping()
        try:
            await request.done
        finally:
            request.give_up()
        return [request.vectors[index] for index in range(len(texts))]

    def status(self) -> EmbedderStatus:
        """Return how the child is doing, and what it costs."""
        if self._starting:
            return EmbedderStatus(state="starting")
        if self._child is not None and (pid := self._child.pid) is not None:
            return EmbedderStatus(state="running", pid=pid, rss_bytes=process.rss_bytes(pid) or 0)
        if (reason := self._why_unusable()) is not None:
            return EmbedderStatus(state="failed", reason=reason)
        return EmbedderStatus(state="stopped")

    async def aclose(self) -> None:
        """Stop the child and refuse what waits. Closing twice is no error."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _check_open(self, more: int) -> None:
        if self._closed:
            raise _stopping()
        if (reason := self._why_unusable()) is not None:
            raise _unusable(reason)
        if self._waiting and sum(len(request.todo) for request in self._waiting) + more > MOST_WAITING:
            raise EmbeddingError("too many texts wait for the local embedding model", retryable=True)

    def _why_unusable(self) -> str | None:
        if self._unusable is not None and clock.monotonic() < self._unusable[0]:
            return self._unusable[1]
        return None

    # --- the one task, there while the child is ------------------------------------------------------

    async def _run(self) -> None:
        """Answer requests until none came for the idle time."""
        try:
            while await self._is_wanted():
                await self._serve(self._take())
        finally:
            self._refuse_all(_stopping)
            await self._stop()

    async def _is_wanted(self) -> bool:
        while not self._waiting:
            self._wanted.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(_then_cancel, self._wanted, group.cancel_scope)
                await clock.sleep(self._idle_seconds)
                group.cancel_scope.cancel()
            if not self._wanted.is_set():
                await self._stop()
                if not self._waiting:  # nobody came while it ended
                    return False
        return True

    async def _serve(self, batch: _Batch) -> None:
        if not batch:
            return
        self._asked = batch
        try:
            if self._child is None or self._child.pid is None:
                self._child = await self._fresh()
            vectors = await self._child.embed([request.texts[index] for request, index in batch])
        except LostError as error:
            log.warning("embedder lost", extra={"reason": str(error), "texts": len(batch)})
            await self._stop()
            self._again(batch)
        except UnusableError as error:
            reason = str(error)
            log.error("embedder unusable", extra={"reason": reason})
            self._unusable = (clock.monotonic() + UNUSABLE_SECONDS, reason)
            self._refuse_all(lambda: _unusable(reason))
        else:
            for (request, index), vector in zip(batch, vectors, strict=True):
                request.vectors[index] = vector
                if len(request.vectors) == len(request.texts) and not request.done.done():
                    request.done.set_result(None)
        self._asked = []

    async def _fresh(self) -> Child:
        self._starting = True
        try:
            return await self._start()
        finally:
            self._starting = False

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    def _take(self) -> _Batch:
        """Return the next batch: one text of each request in turn. Who lost a child before goes alone."""
        batch: _Batch = []
        chars = 0
        while self._waiting and len(batch) < BATCH_TEXTS:
            request = self._waiting[0]
            if request.done.done():
                self._waiting.popleft()
                continue
            first = batch[0][0] if batch else request
            chars += len(request.texts[request.todo[0]])
            if batch and (chars > BATCH_CHARS or (first is not request and first.losses + request.losses)):
                break
            batch.append((request, request.todo.popleft()))
            self._waiting.rotate(0 if request.losses else -1)
            if not request.todo:
                self._waiting.remove(request)
        return batch

    def _again(self, batch: _Batch) -> None:
        """Put back what was lost; who lost a child the second time fails."""
        lost = {request: None for request, _ in batch}
        for request, index in reversed(batch):
            request.todo.appendleft(index)
        for request in reversed(lost):
            request.losses += 1
            if request.losses > 1:
                request.fail(EmbeddingError("the local embedding model died twice over these texts"))
            elif request not in self._waiting:
                self._waiting.appendleft(request)

    def _refuse_all(self, error: Callable[[], EmbeddingError]) -> None:
        for request in (*self._waiting, *(request for request, _ in self._asked)):
            request.fail(error())
        self._waiting.clear()


async def _then_cancel(event: asyncio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _stopping() -> EmbeddingError:
    return EmbeddingError("the server is shutting down", retryable=True)


def _unusable(reason: str) -> EmbeddingError:
    return EmbeddingError(
        f"the local embedding model cannot be used: {reason}; name another one with WAKEFUL_EMBEDDING"
    )
