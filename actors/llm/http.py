"""Calls models over HTTP: aiohttp on the wire, the official client for URLs, headers and errors.

What a refusal teaches about a model is kept here, per provider and for the life of the process.
"""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import anyio
import anyio.to_thread
from msgspec import Struct
from yarl import URL

from actors import clock
from actors.errors import ModelError
from actors.llm import bodies, errors, habits, wire
from actors.llm.calls import Call, prepare
from actors.llm.dialects import Dialect
from actors.llm.habits import Habits, Preferences
from actors.llm.incoming import Incoming
from actors.llm.model import Model, ModelRef, Piece, Request, Take
from actors.llm.providers import Provider
from actors.llm.wire import Watch, Wire
from storage.records import ModelSettings

if TYPE_CHECKING:
    from actors.llm.openai_sdk import Sdk

log = logging.getLogger("wakeful.llm")

# Headers carry a credential: this stays far below the slack in which one is refreshed.
HEADERS_TTL = 30.0
# Names of models come from clients; what was learned of the first is forgotten beyond this many.
MOST_HABITS = 1_000
MOST_TARGETS = 100  # likewise: a deployment has an address of its own


class Target(Struct, frozen=True):
    """Where a request goes, with what, until when (monotonic) that is good."""

    url: URL
    headers: dict[str, str]
    proxy: URL | None
    until: float


class Endpoint:
    """A provider as its models share it: the official client, and what it built a short while ago."""

    def __init__(self, provider: Provider, lines: Wire, chosen: Preferences | None = None) -> None:
        self.provider = provider
        self.wire = lines
        self.chosen = chosen or Preferences()
        self._habits: dict[str, Habits] = {}
        self._sdk: Sdk | None = None
        self._targets: dict[str, Target] = {}

    def habits(self, ref: ModelRef) -> Habits:
        """Return how a model of this provider is spoken to."""
        return self._habits.get(ref.name) or habits.first(
            ref, self.chosen, responses=self.provider.has_responses
        )

    def learn(self, ref: ModelRef, lacks: str, *, asked_tools: bool) -> bool:
        """Keep that a model lacks something; return whether it can be done without."""
        before = self.habits(ref)
        after = habits.learn(before, lacks, asked_tools=asked_tools)
        if after == before:
            return False
        if ref.name not in self._habits and len(self._habits) >= MOST_HABITS:
            del self._habits[next(iter(self._habits))]
        self._habits[ref.name] = after
        log.info("model lacks something", extra={"model": ref.handle, "lacks": lacks})
        return True

    async def target(self, path: str) -> Target:
        """Return where and with which headers to send a request to `path`."""
        target = self._targets.get(path)
        if target is None or clock.monotonic() >= target.until:
            client = await self._client()
            text, headers = await client.request(path)
            headers["accept-encoding"] = "gzip"  # all that aiohttp decodes by itself
            url = URL(text, encoded=True)
            target = Target(url, headers, self.wire.proxy_for(url), clock.monotonic() + HEADERS_TTL)
            if path not in self._targets and len(self._targets) >= MOST_TARGETS:
                del self._targets[next(iter(self._targets))]
            self._targets[path] = target
        return target

    async def post(self, path: str, payload: bytes, *, limit_bytes: int) -> bytes:
        """Send a request that is answered at once; return the answer's body, cut at the limit.

        Raises:
            ModelError: It was refused.
            aiohttp.ClientError, ValueError: The connection failed, or the base URL leads nowhere.
        """
        target = await self.target(path)
        async with self.wire.session.post(
            target.url,
            data=bodies.of(payload),
            headers=target.headers,
            proxy=target.proxy,
            allow_redirects=False,
        ) as response:
            if response.status >= 300:
                raise await self.refusal(path, response)
            return await wire.read_body(response, limit_bytes)

    async def refusal(self, path: str, response: aiohttp.ClientResponse) -> ModelError:
        """Read an error response, which closes it, and say what it means; the cause is the client's error."""
        if response.status == 401:
            self._targets.clear()
        try:
            body = await wire.read_body(response, wire.ERROR_BYTES)
        finally:
            response.close()
        client = await self._client()
        cause = await client.status_error(path, response.status, response.headers, body)
        error = errors.classify(
            errors.read_refusal(cause.body, cause.status_code),
            self.provider.name,
            retry_after=errors.retry_after(response.headers, clock.now()),
            secrets=self.provider.secrets,
        )
        error.__cause__ = cause
        return error

    async def _client(self) -> "Sdk":
        if self._sdk is None:
            self._sdk = await anyio.to_thread.run_sync(_load_sdk, self.provider)
        return self._sdk


class OpenAIChat:
    """A model behind an OpenAI-compatible endpoint, in whichever of its dialects."""

    def __init__(self, ref: ModelRef, endpoint: Endpoint) -> None:
        self.ref = ref
        self._endpoint = endpoint
        self._root = ""
        if endpoint.provider.type == "azure":
            self._root = f"/deployments/{quote(ref.name, safe='')}"

    def dialect(self, settings: ModelSettings) -> Dialect:
        """Return how this model is written to, as far as is known by now."""
        return habits.dialect_of(self.ref, habits.chosen(self._endpoint.habits(self.ref), settings))

    def is_same(self, other: Model) -> bool:
        """Say whether another model is this one: of the same name, at the same provider."""
        return (
            isinstance(other, OpenAIChat)
            and other.ref == self.ref
            and other._endpoint.provider == self._endpoint.provider
        )

    async def open(self, request: Request) -> "Opened":
        """Send a request before anybody reads its answer; return once the answer's headers are there.

        What comes of it waits in aiohttp's buffer, which is bounded. Whoever is given the call closes it.

        Raises:
            ModelError: As `stream`.
        """
        known = habits.chosen(self._endpoint.habits(self.ref), request.settings)
        call = prepare(self.ref, request, known, self._endpoint.provider)
        return Opened(self, request, call, await self._open(call, request))

    def stream(
        self, request: Request, take: Take | None = None, opened: "Opened | None" = None
    ) -> AsyncGenerator[list[Piece], None]:
        """Yield the answer's pieces, as many at once as one network read brought; see `Model.stream`.

        A call that is `opened` already is not sent. A connection that the provider closed before its first
        byte is tried again once, at once; so is an answer that ended for its length within a call of which
        nothing was given out, with twice the length. Cancelling or closing the generator closes the
        connection.

        Raises:
            ModelError: The call failed; see its attributes for what to do.
        """
        return self._answers(request, take, again=False, opened=opened)

    async def _answers(
        self, request: Request, take: Take | None, *, again: bool, opened: "Opened | None" = None
    ) -> AsyncGenerator[list[Piece], None]:
        """Yield what `stream` does; `again` says that the request is the longer one already."""
        provider, timeouts = self._endpoint.provider, self._endpoint.wire.timeouts
        known = habits.chosen(self._endpoint.habits(self.ref), request.settings)
        call = prepare(self.ref, request, known, provider, again=again) if opened is None else opened.call
        decoder, watch = call.decoder, Watch(provider.name, timeouts)
        response = await self._open(call, request) if opened is None else opened.response
        answer = Incoming(response, decoder, watch, provider=provider.name, take=take)
        try:
            while not decoder.done:
                pieces = await answer.read()
                if call.fell_short:
                    break
                if pieces:
                    yield pieces
                if decoder.failure is not None:
                    raise decoder.failure
        except ModelError as error:
            self._learn(error, request)
            raise
        finally:
            answer.close()
        if call.fell_short and call.longer is not None:
            async with aclosing(self._answers(call.longer, take, again=True)) as batches:
                async for longer in batches:
                    yield longer
        elif call.watched is not None and call.watched.strayed:
            self._endpoint.learn(self.ref, "tools", asked_tools=True)

    async def _open(self, call: Call, request: Request) -> aiohttp.ClientResponse:
        """Return the response once its headers are there. An error says how often the provider was asked."""
        provider, timeouts = self._endpoint.provider, self._endpoint.wire.timeouts
        requests = 1
        path = call.path if request.dialect.api == "responses" else self._root + call.path
        try:
            target = await self._endpoint.target(path)
            async with asyncio.timeout(timeouts.first_token):
                try:
                    response = await self._send(target, call.payload, request)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # A kept connection may die just as we write; nothing of an answer has come yet.
                    requests = 2
                    response = await self._send(target, call.payload, request)
                if response.status < 300:
                    return response
                raise await self._endpoint.refusal(path, response)
        except ModelError as error:
            error.requests = requests
            if request.dialect.api == "responses" and error.status in (404, 405, 501) and not error.lacks:
                error.lacks = "responses"
            self._learn(error, request)
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            failure = wire.broken(error, provider.name, timeouts)
            failure.requests = requests
            raise failure from error

    def _learn(self, error: ModelError, request: Request) -> None:
        """Keep what a refusal says that the model lacks, and mark the error if it can be done without."""
        if error.lacks:
            error.learned = self._endpoint.learn(self.ref, error.lacks, asked_tools=bool(request.tools))

    async def _send(self, target: Target, payload: bytes, request: Request) -> aiohttp.ClientResponse:
        key = request.key
        headers = target.headers
        if key and key.isascii() and key.isprintable():
            headers = {**headers, "idempotency-key": key}
        return await self._endpoint.wire.session.post(
            target.url,
            data=bodies.of(payload, request.sent),
            headers=headers,
            proxy=target.proxy,
            allow_redirects=False,
        )


class Opened(Struct, frozen=True):
    """A call whose answer has begun to come."""

    model: OpenAIChat
    request: Request
    call: Call
    response: aiohttp.ClientResponse

    def stream(self, take: Take | None = None) -> AsyncGenerator[list[Piece], None]:
        """Yield the answer's pieces, once, as `Model.stream` does."""
        return self.model.stream(self.request, take, self)

    def close(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        self.response.close()


async def warm() -> None:
    """Import the official client in a thread, so that the first model call need not wait for it."""
    await anyio.to_thread.run_sync(importlib.import_module, "actors.llm.openai_sdk")


def _load_sdk(provider: Provider) -> "Sdk":
    from actors.llm import openai_sdk

    return openai_sdk.Sdk(provider)
