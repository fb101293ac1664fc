"""What the command line asks of a server over the public REST routes."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct

from gateway.chat.transcript import SHOWN, Stored
from gateway.commands.errors import CommandError
from storage.records import JsonObject

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0
UPLOAD_SECONDS = 300.0  # for a file and what the server makes of it
READ_BYTES = 64 * 1024

AGAIN = frozenset({408, 429, 502, 503, 504})  # statuses that mean: nothing was done, ask again

T = TypeVar("T")


class ChatError(CommandError):
    """The command cannot go on; the message names the remedy."""


class AwayError(ChatError):
    """The server cannot be reached, or, where it says when to retry, takes no work just now.

    Asking again is safe.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RefusedError(ChatError):
    """The server understood and said no."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Agent(Struct, frozen=True):
    """An agent, as far as the chat shows it."""

    id: str
    name: str
    model: str | None = None


class Reply(Struct, frozen=True):
    """The body of an answer, and the version of what it shows."""

    body: bytes
    etag: str | None


class Run(Struct, frozen=True):
    """How a run stands."""

    status: str
    stop_reason: str | None = None


class Call(Struct, frozen=True):
    """A tool call that waits for a person: for a decision (`approval`), or for its result."""

    tool_call_id: str
    name: str
    arguments: str = ""
    kind: str = "approval"


class Pending(Struct, frozen=True):
    """What one conversation waits for; the agent's own has no id here."""

    calls: tuple[Call, ...]
    conversation_id: str | None = None


class Client:
    """One server. Use it as a context manager inside an event loop."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = url.rstrip("/")
        self._has_key = api_key is not None
        self._headers: dict[str, str] = {}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> "Client":
        limit = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=REQUEST_SECONDS)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=limit, read_bufsize=READ_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def find_agent(self, wanted: str) -> Agent:
        """Return the agent with this id or name.

        Raises:
            ChatError: There is none, or there are several of that name.
        """
        if wanted.startswith("agent-"):
            try:
                return await self.ask("GET", f"/v1/agents/{quote(wanted, safe='')}", Agent)
            except RefusedError as error:
                if error.status not in (404, 422):
                    raise
        found = await self.ask("GET", f"/v1/agents/?name={quote(wanted, safe='')}", list[Agent])
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(agent.id for agent in found)
            raise ChatError(f"{len(found)} agents are named {wanted!r}; say which by its id: {ids}")
        raise ChatError(
            f"there is no agent {wanted!r}; `wakeful agents list` lists them, `wakeful chat` creates one"
        )

    async def create_agent(self, blocks: Mapping[str, str]) -> Agent:
        """Create an agent with these memory blocks, by label; the server names it."""
        shaped = [{"label": label, "value": value} for label, value in blocks.items()]
        return await self.ask("POST", "/v1/agents/", Agent, {"memory_blocks": shaped})

    async def run(self, run_id: str) -> Run:
        """Return how a run stands."""
        return await self.ask("GET", f"/v1/runs/{run_id}", Run)

    async def messages(self, run_id: str) -> list[Stored]:
        """Return what a run has said so far, as it is stored."""
        types = "&".join(f"include_return_message_types={name}" for name in SHOWN)
        return await self.ask("GET", f"/v1/runs/{run_id}/messages?limit=1000&{types}", list[Stored])

    async def waiting(self, agent_id: str) -> tuple[Call, ...]:
        """Return the calls for which an agent's own conversation waits."""
        found = await self.ask("GET", f"/v1/agents/{agent_id}/pending-requests", list[Pending])
        return tuple(call for one in found if one.conversation_id is None for call in one.calls)

    async def ask(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        """Send a request and return its answer, decoded.

        Raises:
            ChatError: There is no good answer; see its kinds above.
        """
        reply = await self.fetch(method, path, body)
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.MsgspecError:
            raise ChatError(f"{self.url} does not answer like a wakeful server") from None

    async def fetch(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and return its answer as it came.

        Raises:
            ChatError: As `ask`.
        """
        form = isinstance(body, aiohttp.FormData)  # which has a type of its own
        seconds = UPLOAD_SECONDS if form else REQUEST_SECONDS
        limit = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
        kind = {"x-requested-with": "wakeful"} if form else {"content-type": "application/json"}
        headers = {**kind, **(headers or {})}
        async with self._answer(method, path, body, timeout=limit, headers=headers) as response:
            return Reply(await response.read(), response.headers.get("etag"))

    async def pages(self, path: str, *, limit: int = 100) -> AsyncGenerator[list[JsonObject]]:
        """Yield the pages of a list, in the order of its cursor `after`, until one is empty."""
        mark, after = "&" if "?" in path else "?", ""
        while page := await self.ask("GET", f"{path}{mark}limit={limit}{after}", list[JsonObject]):
            yield page
            last = str(page[-1].get("id", ""))
            if not last or after == (after := f"&after={quote(last, safe='')}"):
                return

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: object, **options: Any
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send a request and yield its response, if that is a good one.

        Raises:
            AwayError, RefusedError, ChatError: It is not, or it ends before its end.
        """
        data = body if isinstance(body, aiohttp.FormData) else _json(body)
        try:
            async with self._session.request(method, self.url + path, data=data, **options) as response:
                if response.status >= 300:
                    raise self._refusal(response.status, response.headers, await response.read())
                yield response
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise ChatError(f"{self.url!r} is no address like http://127.0.0.1:8283") from None
        except aiohttp.ClientConnectorError as error:
            raise AwayError(f"nothing answers at {self.url}") from error
        except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError too
            raise AwayError("the connection broke") from error

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ChatError:
        try:
            reason = msgspec.json.decode(body, type=_ErrorBody).error.message
        except msgspec.MsgspecError:
            if status not in AGAIN:
                return ChatError(
                    f"what answers at {self.url} is no wakeful server (status {status}); name one by --url"
                )
            reason = f"the server answered with status {status}"
        if status == 401 and self._has_key:
            return ChatError("the server has another API key: mend --api-key or WAKEFUL_API_KEY")
        if status == 401:
            return ChatError("the server wants its API key: use --api-key, or set WAKEFUL_API_KEY")
        if status in AGAIN:
            after = headers.get("retry-after", "")
            return AwayError(reason, retry_after=float(after) if after.isdecimal() else 0.0)
        return RefusedError(status, reason)


class _Problem(Struct, frozen=True):
    message: str


class _ErrorBody(Struct, frozen=True):
    error: _Problem


def _json(body: object) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)
