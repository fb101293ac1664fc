"""The body of an answer on its way in: from a response through a decoder, under a watch."""

import asyncio

import aiohttp

from actors.llm import errors, wire
from actors.llm.model import Piece, Take
from actors.llm.tap import tap
from actors.llm.text_calls_decoder import Decoder
from actors.llm.wire import Watch

# What an answer may come to on the wire, unpacked: 200,000 tokens in events of 1 KiB each, and more.
ANSWER_BYTES = 256 * 1024 * 1024


class Incoming:
    """An answer that arrives. What comes while somebody waits in `read` is decoded where it arrives.

    It goes to `take` at once, and the task that waits runs again only for the end, for a fault, or where
    there is no `take`. What comes while nobody waits stays in aiohttp's buffer, which is bounded.
    """

    __slots__ = (
        "_bytes",
        "_decoder",
        "_ended",
        "_provider",
        "_response",
        "_take",
        "_tap",
        "_waiter",
        "_watch",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        decoder: Decoder,
        watch: Watch,
        *,
        provider: str,
        take: Take | None,
    ) -> None:
        self._response = response
        self._decoder = decoder
        self._watch = watch
        self._provider = provider
        self._take = take
        self._bytes = 0  # of the body, decoded so far
        self._ended = False  # nothing more will come
        self._waiter: asyncio.Future[list[Piece]] | None = None
        self._tap = tap(response, self._arrived)
        response.content.on_eof(self._end)
        watch.begin(self._expire)

    async def read(self) -> list[Piece]:
        """Return the next pieces that were not taken, perhaps none.

        A connection that breaks after the finish reason ends the answer as its end mark would have.

        Raises:
            ModelError: The answer is cut short, was too slow, has no end, or reports a failure.
            Exception: As `take` raised it.
        """
        decoder = self._decoder
        try:
            pieces = self._next()  # what came while the caller had its turn
            if pieces is None:
                pieces = await self._rest()
            if decoder.done:
                await wire.read_to_end(self._response)
        except (aiohttp.ClientError, OSError) as error:
            if decoder.ended:
                return decoder.close()
            raise self._watch.error() if self._watch.expired else errors.cut_short(self._provider) from error
        return pieces

    def close(self) -> None:
        """Stop to watch, and close the connection unless the body was read to its end."""
        self._watch.end()
        if self._tap is not None:
            self._tap.remove()
            self._tap = None  # it holds this; a circle would wait for the garbage collector
        self._response.close()

    async def _rest(self) -> list[Piece]:
        """Wait for pieces that are not taken where they arrive."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._watch.wait()
        try:
            return await self._waiter
        finally:
            self._waiter = None
            self._watch.got()

    def _arrived(self) -> None:
        """Decode and hand on what came, if somebody waits for it. The path of every token."""
        waiter, take = self._waiter, self._take
        if waiter is None or waiter.done():
            return
        try:
            while (pieces := self._next()) is not None:
                if take is None or self._decoder.done or self._decoder.failure is not None:
                    waiter.set_result(pieces)
                    return
                if pieces:
                    take(pieces)
                if self._bytes == self._response.content.total_bytes and not self._ended:
                    return
        except Exception as error:  # noqa: BLE001 - it belongs to the task that waits, which raises it
            waiter.set_exception(error)

    def _next(self) -> list[Piece] | None:
        """Return the pieces of what came since the last time, perhaps none; `None` where nothing came.

        Raises:
            aiohttp.ClientError, OSError: The connection broke, or was closed.
            ModelError: As the decoder, or the answer is larger than any can be.
        """
        content, decoder, watch = self._response.content, self._decoder, self._watch
        if content.total_bytes > self._bytes:
            chunk = content.read_nowait()
            self._bytes += len(chunk)
            if self._bytes > ANSWER_BYTES:
                raise errors.endless(self._provider, ANSWER_BYTES)
            pieces = decoder.feed(chunk)
        else:
            if (failure := content.exception()) is not None:
                raise failure
            if not content.is_eof():
                connection = self._response.connection
                if connection is None or connection.transport is None:
                    raise aiohttp.ServerDisconnectedError
                return None
            pieces = decoder.close()
        if decoder.ended and not decoder.done:
            watch.finishing()
        if pieces:
            watch.progress()
        else:
            watch.heard()
        return pieces

    def _end(self) -> None:
        self._ended = True

    def _expire(self) -> None:
        """Give the answer up: it took too long."""
        self._response.close()
        self._arrived()
