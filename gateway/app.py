"""One ASGI application: finds the route, asks who calls, runs the endpoint, answers every error."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.clock import new_id
from actors.host import Host
from gateway import absent, cors, decode, errors
from gateway.auth import Caller, Gate
from gateway.config import Settings
from gateway.cors import Cors
from gateway.errors import (
    GatewayError,
    SlowBodyError,
    TooLargeError,
    UnsupportedMediaError,
    UpgradeRequiredError,
)
from gateway.realtime.protocol import PATHS
from gateway.router import Router
from gateway.tokens import Tokens

log = logging.getLogger("wakeful.gateway")

T = TypeVar("T")

BODY_BYTES = 8 * 1024 * 1024
MESSAGE_BODY_BYTES = 32 * 1024 * 1024
BODY_SECONDS = 30.0  # a client that sends its body slower than this is cut off
ROUTE_SECONDS = 30.0  # above the database's own statement timeout, which says more


class Context:
    """One request: who asks, for what, and how to read it.

    `params` are the path's parameters, already checked. `modern` tells the SDK generation 1.x, which
    wants relations only where it asks for them. `request_id` is in every answer's `x-request-id`.
    `expires_at` is the end of the token that named the caller, in seconds since the epoch.
    """

    __slots__ = (
        "caller",
        "expires_at",
        "headers",
        "host",
        "params",
        "request",
        "request_id",
        "route",
        "settings",
        "tokens",
    )

    def __init__(
        self,
        request: Request,
        *,
        route: "Route",
        host: Host,
        settings: Settings,
        tokens: Tokens,
        caller: Caller,
        headers: dict[bytes, bytes],
        params: dict[str, str],
        request_id: str,
        expires_at: float | None = None,
    ) -> None:
        self.request = request
        self.route = route
        self.host = host
        self.settings = settings
        self.tokens = tokens
        self.caller = caller
        self.expires_at = expires_at
        self.headers = headers
        self.params = params
        self.request_id = request_id

    @property
    def modern(self) -> bool:
        """Whether the caller is an SDK of generation 1.x, or says nothing about itself."""
        if b"x-stainless-package-version" in self.headers:
            return True
        agent = self.headers.get(b"user-agent")
        return agent is None or agent.startswith((b"letta-client/1.", b"@letta-ai/letta-client/1."))

    def query(self, kind: type[T]) -> T:
        """Return the query parameters as `kind`.

        Raises:
            InvalidRequestError: See `decode.query`.
        """
        return decode.query(self.request.scope["query_string"], kind)

    async def body(self, kind: type[T]) -> T:
        """Read the JSON body as `kind`.

        Raises:
            InvalidRequestError: See `decode.body`.
            TooLargeError, UnsupportedMediaError, SlowBodyError: The body was not read to its end.
        """
        return decode.body(decode.without_nul(await self.read()), kind)

    async def optional_body(self, kind: type[T]) -> T | None:
        """Read the body as `body` does, or return `None` when there is none, or only `null`."""
        data = await self.read()
        return None if data.strip() in (b"", b"null") else decode.body(decode.without_nul(data), kind)

    async def read(self) -> bytes:
        """Return the whole body, at most `route.body_bytes` of it. Call it once."""
        limit = self.route.body_bytes
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaError("send the body without Content-Encoding")
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limit:
            raise TooLargeError(limit)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _gather(self.request.receive, limit)
        except TimeoutError:
            raise SlowBodyError(f"the body did not arrive within {BODY_SECONDS:.0f} s") from None


async def _gather(receive: Receive, limit: int) -> bytes:
    gathered = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        if len(gathered) + len(chunk) > limit:
            raise TooLargeError(limit)
        more: bool = message.get("more_body", False)
        if not more and not gathered:
            return chunk  # the usual case: the whole body in one piece
        gathered += chunk
        if not more:
            return bytes(gathered)


Endpoint = Callable[[Context], Awaitable[Response]]


class Route(Struct, frozen=True, kw_only=True):
    """One route as data. `path` is written as Letta does: `/v1/agents/{agent_id}`.

    `query` and `body` are the Structs that the endpoint decodes, `returns` what it answers with; they
    become the OpenAPI document. `deadline_seconds` bounds the endpoint until its response starts;
    `None` is for routes that wait for a model and bound their waits themselves. `public` needs no key;
    `tokens` takes JWTs and tickets as well, and checks their scopes and agents itself.
    """

    method: str
    path: str
    endpoint: Endpoint
    operation_id: str
    summary: str
    query: type[Struct] | None = None
    body: Any = None
    body_optional: bool = False
    body_media: str = "application/json"
    returns: Any = None
    status: int = 200
    tags: tuple[str, ...] = ()
    body_bytes: int = BODY_BYTES
    deadline_seconds: float | None = ROUTE_SECONDS
    public: bool = False
    tokens: bool = False


_encode = msgspec.json.Encoder().encode


def json(value: object, *, status: int = 200) -> Response:
    """Return `value` as a JSON response."""
    return Response(_encode(value), status_code=status, media_type="application/json")


class App:
    """The gateway. `websocket` is the application for websocket connections, if there is one.

    `tokens` is what the two share: a ticket made here may be used there.
    """

    def __init__(
        self,
        host: Host,
        settings: Settings,
        routes: Iterable[Route],
        *,
        websocket: ASGIApp | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.host = host
        self.settings = settings
        self._router = Router(routes)
        self.tokens = tokens or Tokens(settings)
        self._gate = Gate(settings.api_key)
        self._cors = Cors(settings.cors_origins)
        self._websocket = websocket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. A failure after the response began ends the connection, logged once."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and self._websocket is not None:
            await self._websocket(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id("req")
        marks: cors.Marks = [(b"x-request-id", request_id.encode())]
        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] += marks
            await send(message)

        try:
            response = await self._respond(scope, receive, marked, request_id=request_id, marks=marks)
            await response(scope, receive, marked)
        except ClientDisconnect:
            log.info("client left", extra={"request_id": request_id})
        except Exception as error:  # the outermost boundary: whatever it is, the client gets one answer
            if started:
                log.error("response broke off", extra={"request_id": request_id}, exc_info=error)
                return
            await errors.answer(error, request_id)(scope, receive, marked)

    async def _respond(
        self, scope: Scope, receive: Receive, send: Send, *, request_id: str, marks: cors.Marks
    ) -> Response:
        raw = scope["headers"]
        headers = dict(raw)
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        try:
            route, found = self._router.find(scope["method"], path)
        except GatewayError:
            if self._asks_for_page(scope["method"], path, headers):
                self._gate.admit(raw, headers, public=True)
                marks += self._cors.marks(headers)
                return self._cors.preflight(headers)
            self._gate.admit(raw, headers, public=False)  # strangers do not learn which routes exist
            absent.check(scope["method"], path)
            if path in PATHS:
                raise UpgradeRequiredError from None
            raise
        if route.tokens:
            marks += self._cors.marks(headers)
        forms = route.body_media == "multipart/form-data"
        identity = self.tokens.of_request(headers, scope["query_string"]) if route.tokens else None
        known = None if identity is None else identity.caller
        caller = self._gate.admit(raw, headers, public=route.public, forms=forms, known=known)
        params = {name: decode.path_parameter(name, value) for name, value in found.items()}
        context = Context(
            Request(scope, receive, send),
            route=route,
            host=self.host,
            settings=self.settings,
            tokens=self.tokens,
            caller=caller,
            headers=headers,
            params=params,
            request_id=request_id,
            expires_at=None if identity is None else identity.expires_at,
        )
        if route.deadline_seconds is None:
            return await route.endpoint(context)
        async with asyncio.timeout(route.deadline_seconds):
            return await route.endpoint(context)

    def _asks_for_page(self, method: str, path: bytes, headers: dict[bytes, bytes]) -> bool:
        """Say whether a browser asks for a page of another origin if it may call a route for such pages."""
        wanted = headers.get(b"access-control-request-method")
        if method != "OPTIONS" or wanted is None or not self._cors.enabled:
            return False
        try:
            route, _ = self._router.find(wanted.decode("latin-1"), path)
        except GatewayError:
            return False
        return route.tokens


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop; the host is opened and closed by whoever made the app."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
