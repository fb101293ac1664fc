"""Embeds texts over HTTP: batches, repetitions, and what servers of other makes do not take."""

from collections.abc import Sequence
from urllib.parse import quote

import aiohttp
import anyio.to_thread

from actors import clock
from actors.errors import ModelError
from actors.llm import openai_embeddings, retry, wire
from actors.llm.http import Endpoint

ANSWER_BYTES = 64 * 1024 * 1024
# More vectors than this are read in a thread: 128 long ones take 25 ms and more.
READ_AT_ONCE = 8
# Statuses by which servers refuse a batch that is too large, a text that is too long, or a field.
_REFUSED = frozenset({400, 413, 422})


class RemoteEmbedder:
    """An embedding model behind an OpenAI-compatible endpoint. The caller sets the deadline."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint = endpoint
        self._name = name
        self._base64 = True
        self._path = "/embeddings"
        if endpoint.provider.type == "azure":
            self._path = f"/deployments/{quote(name, safe='')}/embeddings"

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """Return a vector of length 1 for each text, in order.

        Raises:
            ModelError: A request failed for good; what was embedded before it is lost.
        """
        found: list[tuple[float, ...]] = []
        for batch in openai_embeddings.batches(texts):
            found += await self._batch(batch)
        return found

    async def _batch(self, texts: list[str]) -> list[tuple[float, ...]]:
        """Embed a batch. One that is refused is cut in two, down to the text that is at fault."""
        try:
            return await self._request(texts, base64=self._base64)
        except ModelError as error:
            if error.status not in _REFUSED or error.kind != "llm_error":
                raise
            if len(texts) == 1:
                if not self._base64:
                    raise
                found = await self._request(texts, base64=False)
                self._base64 = False  # that was what it did not take
                return found
        half = len(texts) // 2
        return [*await self._batch(texts[:half]), *await self._batch(texts[half:])]

    async def _request(self, texts: list[str], *, base64: bool) -> list[tuple[float, ...]]:
        """Embed with repetitions, which are safe: nothing is kept of a request."""
        payload = openai_embeddings.body(self._name, texts, base64=base64)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(payload, len(texts))
            except ModelError as error:
                wait = retry.delay(attempt, error)
                if wait is None:
                    raise
            await clock.sleep(wait)

    async def _attempt(self, payload: bytes, texts: int) -> list[tuple[float, ...]]:
        provider, timeouts = self._endpoint.provider, self._endpoint.wire.timeouts
        try:
            try:
                data = await self._post(payload)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                data = await self._post(payload)  # a kept connection died just as we wrote
        except (aiohttp.ClientError, ValueError) as error:
            raise wire.broken(error, provider.name, timeouts) from error
        if texts <= READ_AT_ONCE:
            return openai_embeddings.vectors(data, provider.name, texts=texts)
        return await anyio.to_thread.run_sync(_read, data, provider.name, texts)

    async def _post(self, payload: bytes) -> bytes:
        return await self._endpoint.post(self._path, payload, limit_bytes=ANSWER_BYTES)


def _read(data: bytes, provider: str, texts: int) -> list[tuple[float, ...]]:
    return openai_embeddings.vectors(data, provider, texts=texts)
