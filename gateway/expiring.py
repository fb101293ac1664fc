"""Streams that end with the token that opened them: what it allowed, it allows no longer."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from actors import clock

CODE = "token_expired"
MESSAGE = "the token has expired; the run goes on: take it up again with a new one"


def until(
    batches: AsyncGenerator[list[bytes], None], expires_at: float | None, *, last: Callable[[], bytes]
) -> AsyncGenerator[list[bytes], None]:
    """Return a stream of what `batches` yields until `expires_at`, then of the words of `last`; closes them.

    `expires_at` is in seconds since the epoch; without it the stream is `batches`. `last` says nothing where
    the stream is over.
    """
    return batches if expires_at is None else _until(batches, expires_at, last)


async def _until(
    batches: AsyncGenerator[list[bytes], None], expires_at: float, last: Callable[[], bytes]
) -> AsyncGenerator[list[bytes], None]:
    loop = asyncio.get_running_loop()
    ends = loop.time() + expires_at - clock.now().timestamp()
    async with aclosing(batches):
        while loop.time() < ends:
            try:
                batch = await _next(batches, ends)
            except StopAsyncIteration:
                return
            if batch is None:
                break
            yield batch
        if words := last():
            yield [words]


async def _next(batches: AsyncGenerator[list[bytes], None], ends: float) -> list[bytes] | None:
    """Return the next batch; `None` where none came until `ends`, by the loop's clock. It ends as they do."""
    limit = asyncio.timeout_at(ends)
    try:
        async with limit:
            return await anext(batches)
    except TimeoutError:
        if not limit.expired():
            raise
        return None
