"""Calls models over HTTP: aiohttp on the wire, the official client for URLs, headers and errors."""

import asyncio
import importlib
import io
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import anyio
import anyio.to_thread
from msgspec import Struct
from yarl import URL

from actors import clock
from actors.errors import ModelError
from actors.llm import errors, openai_chat, wire
from actors.llm.model import ModelRef, Piece, Request
from actors.llm.openai_stream import ChatDecoder
from actors.llm.providers import Provider
from actors.llm.wire import Watch, Wire

if TYPE_CHECKING:
    from actors.llm.openai_sdk import Sdk

# Headers carry a credential: this stays far below the slack in which one is refreshed.
HEADERS_TTL = 30.0
# aiohttp warns about larger bodies given as bytes, and reads them in pieces from a file.
LARGE_BODY_BYTES = 1024 * 1024


class Target(Struct, frozen=True):
    """Where a request goes, with what, until when (monotonic) that is good."""

    url: URL
    headers: dict[str, str]
    proxy: URL | None
    until: float


class Endpoint:
    """A provider as its models share it: the official client, and what it built a short while ago."""

    def __init__(self, provider: Provider, lines: Wire) -> None:
        self.provider = provider
        self.wire = lines
        self._sdk: Sdk | None = None
        self._targets: dict[str, Target] = {}

    async def target(self, path: str) -> Target:
        """Return where and with which headers to send a request to `path`."""
        target = self._targets.get(path)
        if target is None or clock.monotonic() >= target.until:
            client = await self._client()
            text, headers = await client.request(path)
            headers["accept-encoding"] = "gzip"  # all that aiohttp decodes by itself
            url = URL(text, encoded=True)
            target = Target(url, headers, self.wire.proxy_for(url), clock.monotonic() + HEADERS_TTL)
            self._targets[path] = target
        return target

    async def refusal(self, path: str, response: aiohttp.ClientResponse) -> ModelError:
        """Read an error response and say what it means. Its cause is the official client's error."""
        if response.status == 401:
            self._targets.clear()
        body = await wire.read_body(response, wire.ERROR_BYTES)
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
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(self, ref: ModelRef, endpoint: Endpoint) -> None:
        self.ref = ref
        self._endpoint = endpoint
        self._path = "/chat/completions"
        if endpoint.provider.type == "azure":
            self._path = f"/deployments/{quote(ref.name, safe='')}/chat/completions"

    async def stream(self, request: Request) -> AsyncGenerator[list[Piece], None]:
        """Yield the answer's pieces, as many at once as one network read brought.

        A connection that the provider closed before its first byte is tried again once, at once.
        Cancelling or closing the generator closes the connection.

        Raises:
            ModelError: The call failed; see its attributes for what to do.
        """
        provider, timeouts = self._endpoint.provider, self._endpoint.wire.timeouts
        decoder = ChatDecoder(provider.name, secrets=provider.secrets)
        watch = Watch(provider.name, timeouts)
        response = await self._open(request)
        try:
            watch.begin(response)
            while not decoder.done:
                watch.wait()
                chunk = await response.content.readany()
                watch.got()
                pieces = decoder.feed(chunk) if chunk else decoder.close()
                if decoder.done:
                    await wire.read_to_end(response)
                elif decoder.ended:
                    watch.finishing()
                if pieces:
                    watch.progress()
                    yield pieces
                if decoder.failure is not None:
                    raise decoder.failure
        except (aiohttp.ClientError, OSError) as error:
            if not decoder.ended:
                raise watch.error() if watch.expired else errors.cut_short(provider.name) from error
            if pieces := decoder.close():
                yield pieces
        finally:
            watch.end()
            response.close()

    async def _open(self, request: Request) -> aiohttp.ClientResponse:
        """Return the response once its headers are there. An error says how often the provider was asked."""
        provider, timeouts = self._endpoint.provider, self._endpoint.wire.timeouts
        requests = 1
        try:
            payload = openai_chat.body(self.ref, request)
            target = await self._endpoint.target(self._path)
            async with asyncio.timeout(timeouts.first_token):
                try:
                    response = await self._send(target, payload, request.key)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    # A kept connection may die just as we write; nothing of an answer has come yet.
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    requests = 2
                    response = await self._send(target, payload, request.key)
                if response.status < 300:
                    return response
                try:
                    raise await self._endpoint.refusal(self._path, response)
                finally:
                    response.close()
        except ModelError as error:
            error.requests = requests
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            failure = wire.broken(error, provider.name, timeouts)
            failure.requests = requests
            raise failure from error

    async def _send(self, target: Target, payload: bytes, key: str) -> aiohttp.ClientResponse:
        headers = target.headers
        if key and key.isascii() and key.isprintable():
            headers = {**headers, "idempotency-key": key}
        return await self._endpoint.wire.session.post(
            target.url,
            data=payload if len(payload) < LARGE_BODY_BYTES else io.BytesIO(payload),
            headers=headers,
            proxy=target.proxy,
            allow_redirects=False,
        )


async def warm() -> None:
    """Import the official client in a thread, so that the first model call need not wait for it."""
    await anyio.to_thread.run_sync(importlib.import_module, "actors.llm.openai_sdk")


def _load_sdk(provider: Provider) -> "Sdk":
    from actors.llm import openai_sdk

    return openai_sdk.Sdk(provider)
