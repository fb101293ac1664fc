"""The body of a request, which says when it was written to the connection."""

import io
from collections.abc import Callable

from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter

# aiohttp warns about larger bodies given as bytes, and reads them in pieces from a file.
LARGE_BYTES = 1024 * 1024


class _Bytes(payload.BytesPayload):
    """A body that is written in one go."""

    sent: Callable[[], None]

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        self.sent()


class _File(payload.BytesIOPayload):
    """A body that is written in pieces, between which others run."""

    sent: Callable[[], None]

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        self.sent()


def of(data: bytes, sent: Callable[[], None] | None = None) -> bytes | io.BytesIO | payload.Payload:
    """Return the data as aiohttp takes it; `sent` is called each time all of it was written."""
    if sent is None:
        return data if len(data) < LARGE_BYTES else io.BytesIO(data)
    body = _Bytes(data) if len(data) < LARGE_BYTES else _File(io.BytesIO(data))
    body.sent = sent
    return body
