"""Calls over the websocket: finds the method, checks who calls, decodes, runs it under its deadline."""

import asyncio
from collections.abc import Iterable

from actors.host import Host
from gateway import decode
from gateway.auth import Caller
from gateway.config import Settings
from gateway.errors import AnswerTooLargeError, BadArgumentError, InvalidRequestError
from gateway.realtime.protocol import METHOD_NOT_FOUND, ProtocolError
from gateway.rpc import agents, context, conversations, memory, tools
from gateway.rpc import runs as rpc_runs
from gateway.rpc.method import Call, Method, Positions, encode

METHODS: tuple[Method, ...] = (
    *agents.METHODS,
    *rpc_runs.METHODS,
    *tools.METHODS,
    *memory.METHODS,
    *context.METHODS,
    *conversations.METHODS,
)


ANSWER_BYTES = 512 * 1024  # well below what may wait for one connection


class Rpc:
    """The methods of one server."""

    def __init__(
        self, host: Host, settings: Settings, feeds: Positions, *, methods: Iterable[Method] = METHODS
    ) -> None:
        self._host = host
        self._settings = settings
        self._feeds = feeds
        self._methods = {method.name: method for method in methods}

    async def call(self, caller: Caller, method: str, data: bytes) -> bytes:
        """Call a method with its data as JSON; return its answer as JSON.

        Cancelling does not take back what was accepted before.

        Raises:
            ProtocolError: There is no such method.
            ForbiddenError: The caller lacks the method's scope.
            InvalidRequestError, BadArgumentError: The data is refused; the text names the field.
            AnswerTooLargeError: Nobody could send the answer; what it tells of has happened.
            TimeoutError: It took too long; it may still have taken effect.
            GatewayError, ActorError, StorageError: What the method says.
        """
        found = self._methods.get(method)
        if found is None:
            raise ProtocolError(
                METHOD_NOT_FOUND, f"there is no such method; known: {', '.join(self._methods)}"
            )
        caller.require(found.scope)
        try:
            asked = decode.body(data, found.data)
            async with asyncio.timeout(found.seconds):
                answer = encode(await found.run(Call(self._host, self._settings, self._feeds, caller), asked))
        except (InvalidRequestError, BadArgumentError) as error:
            raise _named(error) from error.__cause__
        if len(answer) > ANSWER_BYTES:
            raise AnswerTooLargeError(len(answer), ANSWER_BYTES)
        return answer


def _named(error: InvalidRequestError | BadArgumentError) -> InvalidRequestError | BadArgumentError:
    """Return the error with its field in the text: a reply has no room for it elsewhere."""
    if not error.param or f"`$.{error.param.split('/')[1]}" in str(error):
        return error
    field = error.param.strip("/").replace("/", ".")
    if isinstance(error, BadArgumentError):
        return BadArgumentError(f"{field}: {error}", param=error.param)
    return InvalidRequestError(f"{field}: {error}", param=error.param, kind=error.kind)
