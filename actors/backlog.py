"""Passages that were stored while their embedding model was away get their vectors once it is back."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from actors import clock
from actors.archival import PORTION
from actors.errors import ActorError, EmbeddingError
from storage import archives, unembedded
from storage.errors import NotFoundError, RefusedError, StorageError
from storage.pool import Pool, connection
from storage.unembedded import Text, Vector, Waiting

if TYPE_CHECKING:
    from actors.llm.embed import Embedded, Embeddings

log = logging.getLogger("wakeful.archival")

LOOK_EVERY = 600.0  # seconds between looks that nobody asked for
DATABASE_REST = 5.0
PACE = (
    2.0  # seconds between looks at least; and that a model rests when it fails, then twice as long each time
)
LONGEST_REST = 300.0
ARCHIVES_AT_ONCE = 100
EMBED_SECONDS = 120.0  # a portion of long texts takes the local model so long on a slow machine
PROBE = "Is anybody there?"  # what any model embeds, unless it is the one at fault

_AT_FAULT = (400, 413, 422)  # what a provider answers to a text that it cannot embed


class Rest(Struct, frozen=True):
    """A model is left alone until this moment of `clock.monotonic`; next time for twice `seconds`."""

    until: float
    seconds: float


class Backlog:
    """Embeds what waits for its vector: after `look`, at the start, and now and then. Run it in one task.

    Its work is in the database: a crash loses the vectors of one portion, and the next life makes them
    again. Whoever stores passages without vectors sets `wanted` afterwards. `check` raises `ActorError`
    unless this host may write; `settled` is told the agents that hold an archive whose model is known
    from now on.
    """

    def __init__(
        self,
        pool: Pool,
        embeddings: "Embeddings",
        *,
        wanted: asyncio.Event,
        check: Callable[[], None],
        settled: Callable[[Iterable[str]], Awaitable[None]],
        pace: float = PACE,
    ) -> None:
        self._pool = pool
        self._embeddings = embeddings
        self._check = check
        self._settled = settled
        self._pace = pace
        self._rests: dict[str, Rest] = {}  # by handle
        self._wanted = wanted
        self._stopped = False

    def stop(self) -> None:
        """Begin nothing more; what is being embedded is stored or lost, and waits for the next life."""
        self._stopped = True
        self._wanted.set()

    async def run(self) -> None:
        """Embed what waits until stopped or cancelled; cancelling loses what was embedded of one portion."""
        while not self._stopped:
            self._wanted.clear()
            try:
                await self.once()
                pause = self._pause()
            except (StorageError, ActorError) as error:
                log.warning("passages not embedded", extra={"reason": str(error)})
                pause = DATABASE_REST
            except Exception:  # the supervisor: what one model answers must not end the host
                log.exception("passages not embedded")
                pause = LOOK_EVERY
            await anyio.sleep(self._pace)  # an agent that archives a lot is looked after once
            with anyio.move_on_after(max(0.0, pause - self._pace)):
                await self._wanted.wait()

    async def once(self) -> None:
        """Go through all archives with passages that wait, but for those whose model rests.

        Raises:
            StorageError: The database failed.
            ActorError: This host may not act any more.
        """
        if self._embeddings.off:
            return
        after, met = "", set[str]()
        while not self._stopped:
            async with connection(self._pool) as conn:
                page = await unembedded.waiting_archives(conn, after=after, limit=ARCHIVES_AT_ONCE)
            for waiting in page:
                handle = self._embeddings.handle_for(waiting.embedding)
                if handle is not None:
                    met.add(handle)
                    await self._archive(waiting, handle)
            if len(page) < ARCHIVES_AT_ONCE:
                break
            after = page[-1].archive_id
        self._rests = {handle: rest for handle, rest in self._rests.items() if handle in met}

    def _pause(self) -> float:
        """Return the seconds to the next look: when a model has rested, or in a while."""
        now = clock.monotonic()
        return min([LOOK_EVERY, *(max(0.0, rest.until - now) for rest in self._rests.values())])

    async def _archive(self, waiting: Waiting, handle: str) -> None:
        """Embed what waits in one archive, portion by portion, unless its model rests or fails."""
        told = waiting.settled
        while not self._stopped and self._awake(handle):
            async with connection(self._pool) as conn:
                texts = await unembedded.texts(conn, waiting.archive_id, limit=PORTION)
            if not texts:
                return
            try:
                done = await self._portion(waiting, handle, texts)
            except EmbeddingError as error:
                self._failed(handle, error)
                return
            self._rests.pop(handle, None)
            if not done:
                return  # deleted meanwhile, or the archive has another model: the next look sees
            if not told:
                told = True
                await self._tell(waiting)

    async def _portion(self, waiting: Waiting, handle: str, texts: list[Text]) -> int:
        """Embed and store a portion; return how many passages wait no more.

        Raises:
            EmbeddingError: The model is away.
            StorageError, ActorError: See `once`.
        """
        try:
            made = await self._embed(handle, texts)
        except EmbeddingError as error:
            if not _may_be_the_texts(error):
                raise
            await self._probe(handle)
            return await self._one_by_one(waiting, handle, texts)
        pairs = zip(texts, made.vectors, strict=True)
        return await self._store(waiting, made.model, [Vector(t.id, t.text, v) for t, v in pairs])

    async def _one_by_one(self, waiting: Waiting, handle: str, texts: list[Text]) -> int:
        """Find the texts that the model refuses, which others have not to suffer for; they stay without."""
        done = 0
        for text in texts:
            if self._stopped:
                break
            try:
                made = await self._embed(handle, [text])
                vector = Vector(text.id, text.text, tuple(made.vectors[0]))
            except EmbeddingError as error:
                if not _may_be_the_texts(error):
                    raise
                await self._probe(handle)
                vector = Vector(text.id, text.text, ())
                log.warning("passage cannot be embedded", extra={"passage_id": text.id, "why": str(error)})
            done += await self._store(waiting, handle, [vector])
        return done

    async def _probe(self, handle: str) -> None:
        """Raise unless the model embeds at all: then it was the text that it refused, and not everything."""
        await self._embeddings.embed([PROBE], model=handle, timeout=EMBED_SECONDS)

    async def _embed(self, handle: str, texts: list[Text]) -> "Embedded":
        return await self._embeddings.embed([t.text for t in texts], model=handle, timeout=EMBED_SECONDS)

    async def _store(self, waiting: Waiting, model: str, vectors: list[Vector]) -> int:
        """Store vectors; one that the database refuses is as good as none.

        Raises:
            StorageError, ActorError: See `once`.
        """
        self._check()
        try:
            return await self._stored(waiting, model, vectors)
        except RefusedError as error:
            log.warning("vectors refused", extra={"archive_id": waiting.archive_id, "why": str(error)})
            return await self._stored(waiting, model, [Vector(v.id, v.text, ()) for v in vectors])
        except NotFoundError:
            return 0  # the archive was deleted meanwhile, and its passages with it

    async def _stored(self, waiting: Waiting, model: str, vectors: list[Vector]) -> int:
        async with connection(self._pool) as conn:
            stored = await unembedded.store(conn, waiting, vectors, model=model)
        log.info("passages embedded", extra={"archive_id": waiting.archive_id, "passages": stored})
        return stored

    async def _tell(self, waiting: Waiting) -> None:
        """Let the agents that hold an archive learn its model."""
        async with connection(self._pool) as conn:
            holders = await archives.holders(conn, waiting.archive_id)
        await self._settled(holders)

    def _awake(self, handle: str) -> bool:
        rest = self._rests.get(handle)
        return rest is None or clock.monotonic() >= rest.until

    def _failed(self, handle: str, error: EmbeddingError) -> None:
        """Leave a model alone, longer each time."""
        before = self._rests.get(handle)
        seconds = self._pace if before is None else min(LONGEST_REST, 2 * before.seconds)
        spread = 0.75 + random.random() / 2
        wait = max(seconds * spread, min(error.retry_after or 0.0, LONGEST_REST))
        self._rests[handle] = Rest(clock.monotonic() + wait, seconds)
        log.warning(
            "embedding model away", extra={"model": handle, "why": str(error), "rests": round(wait, 1)}
        )


def _may_be_the_texts(error: EmbeddingError) -> bool:
    """Say whether the texts may be at fault: refused, or answered with what is no vector of theirs."""
    return error.status in _AT_FAULT or (error.status is None and not error.retryable)
