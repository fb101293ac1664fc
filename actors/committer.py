"""Makes steps and commands durable: batches, judges each one alone, and resolves lost answers."""

import asyncio
from collections.abc import Sequence

import anyio

from actors import clock
from storage import checkpoints, inbox
from storage.checkpoints import Checkpoint
from storage.errors import FencedError, StorageError, UnavailableError
from storage.held import Held
from storage.inbox import Accepted, Submission
from storage.pool import Pool, distrust

# Deadlines of what every message costs use asyncio.timeout: anyio.fail_after took 5 % of the CPU here.
COMMIT_DEADLINE = 10.0  # seconds for one round trip, then its answer counts as lost
ACCEPT_DEADLINE = 3.0
OUTAGE_DEADLINE = 60.0  # a finished step waits this long for the database to come back
RETRY_DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


class Committer:
    """The commit functions that the two batchers of a host run."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._held = [Held(pool)]

    async def close(self) -> None:
        """Give the connections back. Nothing is under way any more."""
        for held in self._held:
            await held.close()

    def _free(self) -> Held:
        """Return the first connection that nobody uses; there is one for each batcher at most.

        While the two take turns, as with one message at a time, one backend does all the work and stays
        warm, where two would each find their memory gone cold.
        """
        for held in self._held:
            if not held.busy:
                return held
        self._held.append(Held(self._pool))
        return self._held[-1]

    async def _distrust(self) -> None:
        """A statement did not answer: no connection is what it was."""
        for held in self._held:
            held.suspect()
        await distrust(self._pool)

    async def accept(self, batch: list[Submission]) -> Sequence[Accepted | Exception]:
        """Accept commands; every one of them is committed or refused when this returns.

        A lost answer is asked again: the key makes that safe. An error of the statement is shared out:
        each command is tried alone, so only the guilty one fails, and fails for what is wrong by then
        (one whose agent was deleted meanwhile finds no agent).

        Raises:
            UnavailableError: The database did not answer twice; nothing may be acknowledged.
        """
        try:
            try:
                return await self._accept_once(batch)
            except UnavailableError:
                return await self._accept_once(batch)
        except UnavailableError:
            raise
        except StorageError:
            return await self._accept_apart(batch)

    async def _accept_once(self, batch: list[Submission]) -> list[Accepted | StorageError]:
        try:
            async with asyncio.timeout(ACCEPT_DEADLINE), self._free() as conn:
                return await inbox.accept(conn, batch)
        except TimeoutError as error:
            await self._distrust()
            raise UnavailableError(f"no answer within {ACCEPT_DEADLINE:g} s") from error

    async def _accept_apart(self, batch: list[Submission]) -> list[Accepted | Exception]:
        """Accept one by one; once the database is away it is not asked again."""
        verdicts: list[Accepted | Exception] = []
        for item in batch:
            try:
                verdicts += await self._accept_once([item])
            except UnavailableError as error:
                return [*verdicts, *[error] * (len(batch) - len(verdicts))]
            except StorageError as error:
                verdicts.append(error)
        return verdicts

    async def checkpoint(self, batch: list[Checkpoint]) -> Sequence[Exception | None]:
        """Commit steps and return each one's verdict.

        An error of the statement is shared out: each step is tried alone, so only the guilty one
        fails. While the database is away the batch is held and tried again, until
        `OUTAGE_DEADLINE`; a commit whose answer was lost is looked up before anything is repeated.
        """
        try:
            return await self._commit_once(batch)
        except UnavailableError as error:
            return await self._outlast(batch, error)
        except StorageError as error:
            if len(batch) == 1:
                return [error]
            return [(await self.checkpoint([item]))[0] for item in batch]

    async def _commit_once(self, batch: list[Checkpoint]) -> list[StorageError | None]:
        try:
            async with asyncio.timeout(COMMIT_DEADLINE), self._free() as conn:
                return await checkpoints.commit(conn, batch)
        except TimeoutError as error:
            await self._distrust()
            raise UnavailableError(f"no answer within {COMMIT_DEADLINE:g} s") from error

    async def _outlast(self, batch: list[Checkpoint], error: UnavailableError) -> Sequence[Exception | None]:
        """Wait for the database, find out what landed, and commit the rest."""
        deadline = clock.monotonic() + OUTAGE_DEADLINE
        tries = 0
        while clock.monotonic() < deadline:
            await anyio.sleep(RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)])
            tries += 1
            try:
                landed = await self._landed(batch)
                rest = [c for c, there in zip(batch, landed, strict=True) if not there]
                verdicts = iter(await self._commit_rest(rest) if rest else [])
                return [None if there else next(verdicts) for there in landed]
            except UnavailableError as again:
                error = again
        return [error] * len(batch)

    async def _commit_rest(self, batch: list[Checkpoint]) -> list[Exception | None]:
        """Commit what had not landed. Its first copy may still do so: then the second one is fenced."""
        try:
            verdicts: list[Exception | None] = list(await self._commit_once(batch))
        except UnavailableError:
            raise
        except StorageError as error:
            verdicts = [error] if len(batch) == 1 else [(await self.checkpoint([c]))[0] for c in batch]
        if any(isinstance(verdict, FencedError) for verdict in verdicts):
            landed = await self._landed(batch)
            verdicts = [None if there else v for v, there in zip(verdicts, landed, strict=True)]
        return verdicts

    async def _landed(self, batch: list[Checkpoint]) -> list[bool]:
        try:
            async with asyncio.timeout(COMMIT_DEADLINE), self._free() as conn:
                return await checkpoints.landed(conn, batch)
        except TimeoutError as error:
            await self._distrust()
            raise UnavailableError(f"no answer within {COMMIT_DEADLINE:g} s") from error
