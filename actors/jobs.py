"""Operations on a conversation that wait for the end of its turn: the control lane of a mailbox."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from actors.errors import ActorError, DrainingError
from storage.errors import FencedError, StorageError, UnavailableError

log = logging.getLogger("wakeful.host")

T = TypeVar("T")

# Not the operation's fault: the activation ends, and whoever asked may ask again.
ENDS_ACTIVATION = (FencedError, DrainingError, UnavailableError)


class Job(Generic[T]):
    """One operation. It runs once, or its activation ends before; whoever awaits `outcome` is told."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._ended: asyncio.Future[tuple[T] | Exception] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Do the work and tell the outcome.

        Raises:
            FencedError, DrainingError, UnavailableError: The activation must end; the caller was told.
        """
        try:
            result = await self._work()
        except ENDS_ACTIVATION as error:
            self._tell(error)
            raise
        except (ActorError, StorageError) as error:
            self._tell(error)
        except Exception as error:  # the outermost boundary of an operation: no command is to blame for it
            log.exception("operation failed")
            self._tell(error)
        else:
            self._tell((result,))

    def abandon(self, _: object = None) -> None:
        """Tell whoever waits that the activation ended before the work was done."""
        self._tell(DrainingError("the agent is being restarted"))

    async def outcome(self) -> T:
        """Wait for the end; cancelling the wait does not stop the work.

        Raises:
            What the work raised, or DrainingError.
        """
        ended = await asyncio.shield(self._ended)
        if isinstance(ended, Exception):
            raise ended
        return ended[0]

    def _tell(self, outcome: tuple[T] | Exception) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)
