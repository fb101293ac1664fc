"""The websocket endpoint: who may open a connection, and the end of all of them."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from starlette.types import Receive, Scope, Send

from actors.clock import new_id
from actors.errors import DrainingError
from actors.host import Host
from gateway import errors, tokens
from gateway.auth import Gate, bearer
from gateway.config import Settings
from gateway.errors import (
    BadArgumentError,
    ForbiddenError,
    GatewayError,
    UnauthorizedError,
    UnknownRouteError,
)
from gateway.feeds.feeds import Feeds
from gateway.realtime import protocol
from gateway.realtime.connection import Connection, Services
from gateway.realtime.places import Budget, Place, Places, is_loopback
from gateway.realtime.sockets import EXTENSION, Socket
from gateway.rpc.methods import Rpc
from gateway.tokens import Identity, Tokens

CLOSES_PER_SECOND = 100.0  # at a drain, so that clients do not all come back in one moment


class Websockets:
    """Every realtime connection of a server. An ASGI application for websocket scopes."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._gate = Gate(settings.api_key)
        self._keyed = settings.api_key is not None
        self.services = services
        self._draining = False
        self.connections: set[Connection] = set()
        self.tokens = services.tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; one that is refused gets an HTTP answer in place of the upgrade."""
        try:
            identity = self._admit(scope)
            place = self.services.places.take(_address(scope))
        except (GatewayError, DrainingError) as error:
            await errors.answer(error, new_id("req"))(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send, place=place, identity=identity)
        finally:
            self.services.places.leave(place)

    def _admit(self, scope: Scope) -> Identity | None:
        """Return who calls, as far as the handshake says it.

        Raises:
            GatewayError, DrainingError: The connection is not opened.
        """
        if (scope.get("raw_path") or scope["path"].encode()) not in protocol.PATHS:
            raise UnknownRouteError
        if self._draining:
            raise DrainingError
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._gate.admit(scope["headers"], headers, public=True)
        if headers.get(b"origin") == b"null":  # a sandboxed frame or a file: nobody's origin
            raise ForbiddenError("this origin may not open a websocket")
        offered: list[str] = scope["subprotocols"]
        if offered and protocol.SUBPROTOCOL not in offered:
            raise BadArgumentError(
                f"none of the subprotocols is supported; offer {protocol.SUBPROTOCOL} or none at all"
            )
        return self._identify(scope, headers)

    def _identify(self, scope: Scope, headers: dict[bytes, bytes]) -> Identity | None:
        """Return whom a ticket or an `Authorization` header stands for, None where there is neither.

        Raises:
            UnauthorizedError: It stands for nobody.
        """
        if (ticket := tokens.ticket_in(scope["query_string"])) is not None:
            return self.services.tokens.redeem(ticket)
        shown = bearer(headers)
        if shown is not None:
            loopback = self._is_near(scope)
            return self.services.tokens.identify(shown.decode("latin-1"), loopback=loopback)
        if b"authorization" in headers and self._keyed:
            raise UnauthorizedError
        return None

    def _is_near(self, scope: Scope) -> bool:
        """Say whether the peer is on this machine and, as the gate has seen to, no page of another site."""
        client = scope.get("client")
        return not self._keyed and client is not None and is_loopback(client[0])

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, *, place: Place, identity: Identity | None
    ) -> None:
        if identity is not None:
            try:
                self.services.places.name(place, identity.caller.user_id)
            except GatewayError as error:
                await errors.answer(error, new_id("req"))(scope, receive, send)
                return
        socket: Socket = scope["extensions"][EXTENSION]
        chosen = protocol.SUBPROTOCOL if scope["subprotocols"] else None
        async with asyncio.TaskGroup() as tasks:
            connection = Connection(
                socket,
                self.services,
                place,
                tasks=tasks,
                identity=identity,
                loopback=self._is_near(scope),
            )
            self.connections.add(connection)
            socket.listener = connection
            try:
                await send({"type": "websocket.accept", "subprotocol": chosen})
                if self._draining:  # it came in while the others were being closed
                    connection.close(protocol.CLOSE_SHUTDOWN, "shutdown")
                await connection.over.wait()
            finally:
                self.connections.discard(connection)
                connection.lost()

    async def drain(self, seconds: float) -> None:
        """Open no further connections, and close those there are, in no order, within `seconds`.

        Their clients come back elsewhere and recover what they missed.
        """
        self._draining = True
        waiting = list(self.connections)
        random.shuffle(waiting)
        pause = min(1 / CLOSES_PER_SECOND, seconds / max(1, len(waiting)))
        for connection in waiting:
            connection.close(protocol.CLOSE_SHUTDOWN, "shutdown")
            await anyio.sleep(pause)


@asynccontextmanager
async def running(host: Host, settings: Settings) -> AsyncGenerator[Websockets]:
    """Yield the endpoint of a host that runs, with everything that its connections use."""
    feeds = Feeds(host)
    places = Places(
        Budget(settings.websocket_bytes),
        per_user=settings.websockets_per_user,
        handshakes=settings.handshakes_per_address,
    )
    services = Services(
        feeds=feeds,
        methods=Rpc(host, settings, feeds),
        tokens=Tokens(settings),
        places=places,
        node=host.name,
    )
    try:
        yield Websockets(settings, services)
    finally:
        await feeds.aclose()


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else client[0]
