"""Fills in the words of committed messages, many at once: no step pays for what only searches read."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

import anyio

from actors import clock
from storage import words
from storage.checkpoints import Checkpoint
from storage.errors import StorageError, UnavailableError
from storage.pool import Pool, connection

log = logging.getLogger("wakeful.words")

GATHER = 5.0  # seconds from the first message to their words, so that one statement is for many
ENOUGH = 2_000  # messages that do not wait so long
MOST = 100_000  # conversations that are remembered; beyond them the database is looked through
FILL_SECONDS = 15.0  # for one statement, with the wait for a connection
SLOW = 1.0  # seconds for one statement, after which the next one is for half as many messages


class Wording:
    """Fills in words some seconds after commits, and at its start what an earlier life left: in one task.

    What lacks its words stands in the database: a crash loses nothing. A search of an agent fills in what it
    needs itself; one of everything waits for `once`, which knows of every commit of this process and finds
    what earlier ones left. Nothing happens while nothing is committed. It uses one connection at a time.
    """

    def __init__(self, pool: Pool, *, gather: float | None = None) -> None:
        self._pool = pool
        self._gather = GATHER if gather is None else gather
        self._due: set[str] = set()
        self._messages = 0
        self._look = True  # through the database
        self._at_once = words.AT_ONCE  # messages for one statement, by what the last ones took
        self._wanted = asyncio.Event()
        self._enough = asyncio.Event()
        self._filling = asyncio.Lock()
        self._wanted.set()

    def committed(self, batch: Iterable[Checkpoint]) -> None:
        """Learn that these steps may be committed. Costs a set's entry."""
        for step in batch:
            self._messages += len(step.messages)
            for message in step.messages:
                self.wrote(message.conversation_id)
        if self._messages >= ENOUGH:
            self._enough.set()

    def wrote(self, conversation_id: str) -> None:
        """Learn that a conversation may have messages without words."""
        self._due.add(conversation_id)
        self._wanted.set()
        if len(self._due) > MOST:
            self._due.clear()
            self._look = True

    async def run(self) -> None:
        """Fill in words until cancelled, which loses nothing."""
        while True:
            await self._wanted.wait()
            with anyio.move_on_after(self._gather):
                await self._enough.wait()
            try:
                await self.once()
            except (StorageError, TimeoutError) as error:
                log.warning("words not filled in", extra={"reason": str(error) or "no answer in time"})
            except Exception:  # the supervisor: searches fill in words themselves, so the host goes on
                log.exception("words not filled in")

    async def once(self) -> None:
        """Fill in the words of all that was committed when this was called; what fails is due again.

        Raises:
            StorageError, TimeoutError: The database failed, or did not answer within `FILL_SECONDS`.
        """
        async with self._filling:  # whoever comes meanwhile waits: what we took is no longer due
            await self._fill_due()

    async def _fill_due(self) -> None:
        self._wanted.clear()
        self._enough.clear()
        self._messages = 0
        due, self._due = sorted(self._due), set[str]()
        look, self._look = self._look, False
        try:
            if look:
                await self._look_through()
                look = False
            while due:
                await self._fill(due[: words.CONVERSATIONS])
                del due[: words.CONVERSATIONS]
        finally:  # where it failed or was cancelled there is something left
            self._due.update(due)
            self._look |= look
            if due or look:
                self._wanted.set()

    async def _look_through(self) -> None:
        after: str | None = ""
        while after is not None:
            with anyio.fail_after(FILL_SECONDS):
                async with connection(self._pool) as conn:
                    behind, after = await words.behind(conn, after)
            for first in range(0, len(behind), words.CONVERSATIONS):
                await self._fill(behind[first : first + words.CONVERSATIONS])

    async def _fill(self, conversation_ids: Sequence[str]) -> None:
        left = list(conversation_ids)
        while left:
            part, left = left[: self._at_once], left[self._at_once :]
            left += await self._fill_some(part)

    async def _fill_some(self, conversation_ids: Sequence[str]) -> list[str]:
        """Fill in words by one statement, and return the conversations that may have more.

        How many messages it is for follows what the last one took: long messages take a hundred times as
        long as short ones, and who waits for the lock waits for all of them.
        """
        begun = clock.monotonic()
        try:
            with anyio.fail_after(FILL_SECONDS):
                async with connection(self._pool) as conn:
                    more = await words.fill_some(conn, conversation_ids, at_once=self._at_once)
        except (UnavailableError, TimeoutError):
            self._at_once = max(1, self._at_once // 2)
            raise
        except StorageError as error:
            return await self._fill_apart(conversation_ids, error)
        spent = clock.monotonic() - begun
        if spent > SLOW:
            self._at_once = max(1, self._at_once // 2)
        elif spent < SLOW / 4:
            self._at_once = min(words.AT_ONCE, self._at_once * 2)
        return more

    async def _fill_apart(self, conversation_ids: Sequence[str], error: StorageError) -> list[str]:
        """Fill in the words of each conversation alone: only the guilty one stays without."""
        if len(conversation_ids) > 1:
            return [more for one in conversation_ids for more in await self._fill_some([one])]
        log.warning("no words", extra={"conversation_id": conversation_ids[0], "reason": str(error)})
        return []
