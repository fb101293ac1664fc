"""Anyone's server, as the command line names it: its agents, made and deleted, and histories for them."""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar
from uuid import uuid4

import aiohttp
import msgspec
from msgspec import Struct

from bench.doors import HISTORY_TEXT
from bench.provider import Provider

T = TypeVar("T")
SECONDS = 60.0  # of one request
AT_ONCE = 16  # requests that make and delete agents
WAKE = "Wake up."
KINDS = ("letta", "openai", "agui")
SYNTAX = "letta=URL, openai=URL or agui=URL, and then ,key=… ,model=… ,embedding=…"
TALKING_S = 60.0  # for one length of history, where a server has to be told all of it message by message
LOOK_S = 3.0  # of talking, after which it is clear how long the rest takes
WINDOW_TOKENS = 1_000_000  # asked for, so that the whole history is in the window


class Address(Struct, frozen=True, kw_only=True):
    """Anyone's server, as the command line has it. `model` and `embedding` are names of that server."""

    kind: Literal["letta", "openai", "agui"]
    url: str
    key: str | None = None
    model: str | None = None
    embedding: str | None = None


def address(text: str) -> Address:
    """Read `letta=URL,key=…`. Raises `ValueError`, which says what is wrong."""
    parts = [part.partition("=") for part in re.split(r",(?=key=|model=|embedding=)", text)]
    fields = {name: value for name, _, value in parts}
    kind = next(iter(fields))
    if kind not in KINDS or not fields[kind].startswith(("http://", "https://")):
        raise ValueError(f"{text!r}: a target is {SYNTAX}")
    url = fields.pop(kind)
    if kind != "agui":  # whose URL is the endpoint itself, slash and all
        url = url.rstrip("/")
    return msgspec.convert({"kind": kind, "url": url, **fields}, Address)


class HistoryError(Exception):
    """Agents of a server could not be given a history; the message says why."""


class RefusedError(RuntimeError):
    """A server did not do what it was asked; the message has its answer."""


class Created(Struct, frozen=True):
    """As much of a created agent as is needed."""

    id: str


class Imported(Struct, frozen=True):
    """The agents that an agent file made."""

    agent_ids: list[str]


class Foreign:
    """Anyone's server. Agents that were made on it are deleted in the end."""

    def __init__(self, at: Address) -> None:
        self.at = at
        self.name = f"{at.kind} {at.url}"
        self._made: list[str] = []

    def start(self) -> None:
        """Do nothing: it runs."""

    def stop(self) -> None:
        """Delete the agents that were made here. Raises `RefusedError` where one cannot be."""
        if self._made:
            made, self._made = self._made, []
            asyncio.run(self._all("DELETE", [(f"/v1/agents/{agent}", None) for agent in made]))

    def make(self, count: int, model: str, **fields: object) -> list[str]:
        """Make agents of a model, or names where the server makes none. Raises `RefusedError`."""
        if self.at.kind != "letta":
            return [f"bench-{uuid4()}" for _ in range(count)]
        fields |= {"model": self.at.model or f"openai/{model}", "embedding": self.at.embedding}
        body = {name: value for name, value in fields.items() if value is not None}
        answers = asyncio.run(self._all("POST", [("/v1/agents/", body)] * count))
        agents = [msgspec.json.decode(answer, type=Created).id for answer in answers]
        self._made += agents
        return agents

    def wake(self, agents: Sequence[str]) -> None:
        """Let agents that were made here answer once. Raises `RefusedError` if one does not."""
        if self.at.kind == "letta":
            asyncio.run(self._all("POST", [(_messages(agent), _said(WAKE)) for agent in agents]))

    def with_history(
        self, count: int, messages: int, *, model: str, provider: Provider, tell: Callable[[str], None]
    ) -> list[str]:
        """Make agents with so many messages in their window, by an agent file, or else by talking to them.

        A server that asks the scripted provider is believed only once the provider was sent that many.

        Raises:
            HistoryError: It cannot be done, or not in `TALKING_S`.
        """
        try:
            first = self.make(1, model, context_window_limit=WINDOW_TOKENS)
            try:
                made = self._imported(first[0], count, messages, tell)
            except (RefusedError, msgspec.MsgspecError):
                rest = self.make(count - 1, model, context_window_limit=WINDOW_TOKENS)
                made = [*first, *rest]
                asyncio.run(self._talk(made, messages, tell))
            if self.at.model is None:
                self._check(made, messages, provider)
            else:
                self.wake(made)
        except RefusedError as error:
            raise HistoryError(str(error)) from None
        return made

    def _imported(self, agent: str, count: int, messages: int, tell: Callable[[str], None]) -> list[str]:
        """Write an agent to its file, put the history there, and make agents of it."""
        self.wake([agent])
        (exported,) = asyncio.run(self._all("GET", [(f"/v1/agents/{agent}/export", None)]))
        file = msgspec.json.encode(longer(msgspec.json.decode(exported, type=dict[str, Any]), messages))
        made: list[str] = []
        for number in range(count):
            tell(f"{self.name}: agent {number + 1} of {count} by a file with {messages:,} messages")
            answer = asyncio.run(self._upload("/v1/agents/import", file))
            made += msgspec.json.decode(answer, type=Imported).agent_ids
        self._made += made
        if len(made) != count:
            raise RefusedError(f"{count} agent files made {len(made)} agents")
        return made

    def _check(self, agents: Sequence[str], messages: int, provider: Provider) -> None:
        """Raise `HistoryError` where a model that was asked did not get the history."""
        asyncio.run(provider.log())
        self.wake(agents)
        asked = [one for one in asyncio.run(provider.log()) if WAKE in one.user_text]
        if asked and (fewest := min(one.messages for one in asked)) < messages:
            raise HistoryError(f"its model is sent {fewest:,} messages of {messages:,}")

    async def _talk(self, agents: Sequence[str], messages: int, tell: Callable[[str], None]) -> None:
        """Say half of the messages to each agent, whose answers are the other half."""
        turns = messages // 2 * len(agents)
        done, began = 0, time.monotonic()

        def ended() -> None:
            nonlocal done
            done += 1
            tell(f"{self.name}: {2 * done:,} of {2 * turns:,} messages said")
            took = time.monotonic() - began
            if took > LOOK_S and took * turns / done > TALKING_S:
                raise HistoryError(
                    f"it takes no agent files, and {2 * turns:,} messages would take "
                    f"{took * turns / done:,.0f} s at {done / took:,.0f} turns a second; "
                    f"at most {TALKING_S:g} s are spent on a history"
                )

        try:
            async with self._session() as session, asyncio.timeout(TALKING_S):
                await _together([self._tell(session, agent, messages // 2, ended) for agent in agents])
        except TimeoutError:
            raise HistoryError(f"only {2 * done:,} of {2 * turns:,} messages in {TALKING_S:g} s") from None

    async def _tell(
        self, session: aiohttp.ClientSession, agent: str, turns: int, ended: Callable[[], None]
    ) -> None:
        for _ in range(turns):
            await self._ask(session, "POST", _messages(agent), json=_said(HISTORY_TEXT))
            ended()

    async def _all(self, method: str, requests: Sequence[tuple[str, object]]) -> list[bytes]:
        room = asyncio.Semaphore(AT_ONCE)
        async with self._session() as session:

            async def one(path: str, body: object) -> bytes:
                async with room:
                    return await self._ask(session, method, path, json=body)

            return await _together([one(path, body) for path, body in requests])

    async def _upload(self, path: str, file: bytes) -> bytes:
        form = aiohttp.FormData()
        form.add_field("file", file, filename="agent.af", content_type="application/json")
        async with self._session() as session:
            return await self._ask(session, "POST", path, data=form)

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str, **body: Any) -> bytes:
        """Return the body of an answer. Raises `RefusedError` where there is none, or it says no."""
        try:
            async with session.request(method, self.at.url + path, **body) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RefusedError(f"{method} {path} had no answer: {type(error).__name__} {error}") from None
        if answer.status >= 300:
            raise RefusedError(f"{method} {path} was answered {answer.status}: {data[:300]!r}")
        return data

    def _session(self) -> aiohttp.ClientSession:
        headers = {"authorization": f"Bearer {self.at.key}"} if self.at.key else {}
        return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=SECONDS))


def longer(file: dict[str, Any], messages: int) -> dict[str, Any]:
    """Return an agent file of one agent whose window holds so many messages more, by turns of both sides.

    Pure. The file's own messages stay before them; each new one is a copy of the last of its role, so that it
    has whatever fields the server writes.

    Raises:
        RefusedError: It is no agent file, or has no message of each side.
    """
    try:
        (agent,) = file["agents"]
        written: list[dict[str, Any]] = agent["messages"]
        window: list[str] = agent["in_context_message_ids"]
        last = {message["role"]: message for message in written}
        pair = last["user"], last["assistant"]
    except (KeyError, TypeError, ValueError):
        raise RefusedError("what it exports is no agent file with a message of each side") from None
    text = [{"type": "text", "text": HISTORY_TEXT}]
    plain = {"content": text, "tool_calls": None, "tool_call_id": None, "tool_returns": None}
    more = [
        pair[index % 2]
        | {name: value for name, value in plain.items() if name in pair[index % 2]}
        | {"id": f"message-{len(written) + index}"}
        for index in range(messages)
    ]
    added = {
        "messages": [*written, *more],
        "in_context_message_ids": [*window, *(message["id"] for message in more)],
    }
    return file | {"agents": [agent | added]}


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once. The first that fails ends the others, and is what is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            doing = [tasks.create_task(one) for one in work]
    except* (RefusedError, HistoryError) as failed:
        raise _first(failed) from None
    return [one.result() for one in doing]


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _messages(agent: str) -> str:
    return f"/v1/agents/{agent}/messages"


def _said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}
