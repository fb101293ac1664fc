"""Calls of the websocket's methods without a socket, on a whole gateway."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actors import clock
from gateway import errors
from gateway.auth import KEYED, Caller
from gateway.config import Settings
from gateway.realtime.protocol import ProtocolError
from gateway.rpc.methods import Rpc
from tests.serving import Served


class Logs:
    """Where channels stand, read from the host's own logs."""

    def __init__(self, served: Served) -> None:
        self._logs = served.host.logs

    def position(self, channel: str) -> Any:
        """Return where a conversation's log stands."""
        log = self._logs.channels.get(channel.removeprefix("conv:"))
        return None if log is None else log.position


class Calls:
    """Calls methods as one caller."""

    def __init__(self, served: Served, caller: Caller = KEYED) -> None:
        self._rpc = Rpc(served.host, Settings(), Logs(served))
        self.caller = caller

    async def __call__(self, method: str, **data: Any) -> Any:
        """Return the answer."""
        return msgspec.json.decode(await self._rpc.call(self.caller, method, msgspec.json.encode(data)))

    async def refused(self, method: str, code: int, words: str, **data: Any) -> str:
        """Check that a call fails with this code and these words; return what is said."""
        return await self.refused_raw(method, code, words, msgspec.json.encode(data))

    async def refused_raw(self, method: str, code: int, words: str, data: bytes) -> str:
        """Check as `refused`, with data as bytes."""
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, a client is told of it
            await self._rpc.call(self.caller, method, data)
        if isinstance(caught.value, ProtocolError):
            found, said = caught.value.code, caught.value.message
        else:
            answer = errors.find(caught.value)
            found, said = answer.status, answer.message
        assert (found, words in said) == (code, True), (found, said, caught.value)
        return said


async def until(condition: Callable[[], Any], *, seconds: float = 15) -> None:
    """Wait until something holds."""
    end = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < end, "it did not come to that"
        await clock.sleep(0.01)
