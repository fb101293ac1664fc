"""Hears that bytes of a response arrived in the very callback in which they do, before any task runs.

aiohttp tells of arriving bytes by waking a task, which costs more than decoding a token does. A tap takes
the place of aiohttp's protocol at the transport (`asyncio.Transport.set_protocol`), passes every call on to
it, and then says so: what has come stands in `response.content` by then (`read_nowait`). Nothing of this is
private to aiohttp; a contract test holds what it relies on.
"""

import asyncio
from collections.abc import Callable

import aiohttp


class Tap(asyncio.Protocol):
    """A protocol before another one. It removes itself where the body or the connection ends.

    `arrived` is called after bytes came, and after the connection was lost. It must neither block nor raise.
    """

    __slots__ = ("_arrived", "_inner", "_transport")

    def __init__(
        self, transport: asyncio.Transport, inner: asyncio.Protocol, arrived: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._inner = inner
        self._arrived = arrived
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)
        self._arrived()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self._arrived()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def remove(self) -> None:
        """Give the transport its own protocol back. Doing it twice changes nothing."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)


def tap(response: aiohttp.ClientResponse, arrived: Callable[[], None]) -> Tap | None:
    """Return a tap on the connection of a response; `None` where it has none any more: all has come.

    It removes itself before the connection goes back to the pool for another request to use it.
    """
    connection = response.connection
    transport = None if connection is None else connection.transport
    inner = None if transport is None else transport.get_protocol()
    if transport is None or not isinstance(inner, asyncio.Protocol):
        return None
    made = Tap(transport, inner, arrived)
    response.content.on_eof(made.remove)
    return made
