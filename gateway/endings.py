"""How a stream ends whose run cannot be told any further: its answer has begun, so only it can say so."""

import logging
from types import TracebackType
from typing import Self

from actors.errors import ActorError
from gateway import errors
from storage.errors import StorageError
from storage.records import RunError

log = logging.getLogger("wakeful.gateway")

INCOMPLETE = "stream_incomplete"
SILENT = RunError(INCOMPLETE, "the run said nothing for too long")


class Ending:
    """Why a stream is over: enter it around what makes its chunks, then tell `error` unless its run ended.

    No failure leaves the block: after a response's first byte nobody else could tell it. Cancellation does.
    """

    def __init__(self, run_id: str) -> None:
        self.error = RunError(INCOMPLETE, "the stream ended before the run did")
        self._run_id = run_id

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Keep a failure as what is to be told."""
        if isinstance(failure, ActorError | StorageError):
            found = errors.find(failure)
            self.error = RunError(INCOMPLETE, "the stream broke off; the run goes on", found.message)
        elif isinstance(failure, Exception):  # the outermost boundary of a response that has begun
            log.error("stream failed", exc_info=failure, extra={"run_id": self._run_id})
            self.error = RunError("internal_error", errors.UNKNOWN)
        else:
            return False
        return True
