"""Streams that end with the token that opened them: what it allowed, it allows no longer."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from actors import clock

CODE = "token_expired"
MESSAGE = "the token has expired; the run goes on: take it up again with a new one"


async def until(
    batches: AsyncGenerator[list[bytes], None], expires_at: float | None, *, last: Callable[[], bytes]
) -> AsyncGenerator[list[bytes], None]:
    """Yield what `batches` yields until `expires_at` (seconds since the epoch), then the words of `last`.

    None: to its end. `last` says nothing where the stream is over. Closes `batches`.
    """
    loop = asyncio.get_running_loop()
    ends = None if expires_at is None else loop.time() + expires_at - clock.now().timestamp()
    async with aclosing(batches):
        while ends is None or loop.time() < ends:
            limit = asyncio.timeout_at(ends)
            try:
                async with limit:
                    batch = await anext(batches)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                break
            yield batch
        if words := last():
            yield [words]
