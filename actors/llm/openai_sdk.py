"""What we take from the official client: URLs, headers and error classes. It sends nothing.

Importing this module costs the better part of a second, so `http` imports it in a thread on first use.
The client is asked through its public `post`, with a transport that answers from memory.
"""

from collections.abc import Mapping
from contextvars import ContextVar

import httpx2
import openai

from actors.llm.providers import Provider

# What other people's servers get. Everything else that the official client adds, also from its own
# environment variables, is meant for OpenAI.
_HEADERS_FOR_ALL = frozenset({"authorization", "accept", "content-type"})
_HEADERS_OF_THE_WIRE = frozenset({"host", "connection", "content-length", "accept-encoding"})

_reply: ContextVar[httpx2.Response] = ContextVar("reply")


class _FromMemory(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002 - the signature of transports
        return _reply.get()


class Sdk:
    """The official client of one provider."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        http_client = httpx2.AsyncClient(transport=_FromMemory(), trust_env=False)
        if provider.type == "azure":
            self._client = openai.AsyncAzureOpenAI(
                azure_endpoint=provider.call_url,
                api_version=provider.azure_api_version,
                api_key=provider.api_key or None,
                azure_ad_token=provider.azure_ad_token,
                max_retries=0,
                http_client=http_client,
            )
        else:
            key = provider.api_key or "none"
            self._client = openai.AsyncOpenAI(
                base_url=provider.call_url,
                api_key=key,
                default_headers={"Authorization": f"Bearer {key}"},
                max_retries=0,
                http_client=http_client,
            )
        # The client fills these from the environment of the process; ours come from the provider alone.
        self._client.organization = provider.organization
        self._client.project = provider.project

    async def request(self, path: str) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of a POST to `path` under the base URL."""
        response = await self._post(path, httpx2.Response(200, json={}))
        headers = {k: v for k, v in response.request.headers.items() if k not in _HEADERS_OF_THE_WIRE}
        if self._provider.type not in ("openai", "azure"):
            headers = {k: v for k, v in headers.items() if k in _HEADERS_FOR_ALL}
        if not self._provider.api_key and not self._provider.azure_ad_token:
            headers.pop("authorization", None)
        return str(response.request.url), headers

    async def status_error(
        self, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> openai.APIStatusError:
        """Return what the client raises for this response: its class, code and message."""
        kept = {k: v for k, v in headers.items() if k.lower() not in ("content-encoding", "content-length")}
        try:
            await self._post(path, httpx2.Response(status, headers=kept, content=body))
        except openai.APIStatusError as error:
            return error
        raise ValueError(f"status {status} is no error")

    async def _post(self, path: str, reply: httpx2.Response) -> httpx2.Response:
        token = _reply.set(reply)
        try:
            return await self._client.post(path, content=b"{}", cast_to=httpx2.Response)
        finally:
            _reply.reset(token)
