"""What load is put on: this server and the relay by each of their doors, the floor, and anyone's server."""

import asyncio
import re
from collections.abc import Sequence
from typing import Literal, cast
from uuid import uuid4

import aiohttp
import msgspec
from msgspec import Struct

from bench import load, targets
from bench.case import Bench
from bench.doors import Door, Way, post
from bench.load import Job, Slot
from bench.provider import Provider
from bench.replies import Reply
from bench.targets import Relay, Target, Wakeful

SECONDS = 60.0  # of requests that make and delete agents
AT_ONCE = 16  # of them
WAKE = "Wake up."
WAKING = 32  # at once
KINDS = ("letta", "openai", "agui")
SYNTAX = "letta=URL, openai=URL or agui=URL, and then ,key=… ,model=… ,embedding=…"


class Floor:
    """The provider itself: what the same client sees where no server stands between."""

    name = "floor"

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def start(self) -> None:
        """Do nothing: it has been started."""

    def stop(self) -> None:
        """Do nothing: who started it ends it."""


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
    return msgspec.convert({"kind": kind, "url": fields.pop(kind).rstrip("/"), **fields}, Address)


class Foreign:
    """Anyone's server. Agents that were made on it are deleted in the end."""

    def __init__(self, at: Address) -> None:
        self.at = at
        self.name = f"{at.kind} {at.url}"
        self._made: list[str] = []

    def start(self) -> None:
        """Do nothing: it runs."""

    def stop(self) -> None:
        """Delete the agents that were made here."""
        if self._made:
            made, self._made = self._made, []
            asyncio.run(self._all("DELETE", [(f"/v1/agents/{agent}", None) for agent in made]))

    def make(self, count: int, model: str) -> list[str]:
        """Make agents of a model, or names where the server makes none. Raises `RuntimeError` if refused."""
        if self.at.kind != "letta":
            return [f"bench-{uuid4()}" for _ in range(count)]
        fields = {"model": self.at.model or f"openai/{model}", "embedding": self.at.embedding}
        body = {name: value for name, value in fields.items() if value is not None}
        answers = asyncio.run(self._all("POST", [("/v1/agents/", body)] * count))
        agents = [msgspec.json.decode(answer, type=targets.Created).id for answer in answers]
        self._made += agents
        return agents

    def wake(self, agents: Sequence[str]) -> None:
        """Let agents that were made here answer once. Raises `RuntimeError` if one does not."""
        if self.at.kind == "letta":
            said = {"messages": [{"role": "user", "content": WAKE}]}
            asyncio.run(self._all("POST", [(f"/v1/agents/{agent}/messages", said) for agent in agents]))

    async def _all(self, method: str, requests: Sequence[tuple[str, object]]) -> list[bytes]:
        headers = {"authorization": f"Bearer {self.at.key}"} if self.at.key else {}
        room, limit = asyncio.Semaphore(AT_ONCE), aiohttp.ClientTimeout(total=SECONDS)
        async with aiohttp.ClientSession(headers=headers, timeout=limit) as session:

            async def one(path: str, body: object) -> bytes:
                async with room, session.request(method, self.at.url + path, json=body) as answer:
                    data = await answer.read()
                if answer.status >= 300:
                    raise RuntimeError(f"{method} {path} was answered {answer.status}: {data[:300]!r}")
                return data

            return await asyncio.gather(*(one(path, body) for path, body in requests))


Loaded = Floor | Foreign | Relay | Wakeful


def doors(target: Loaded, way: Way, model: str) -> list[Door]:
    """The doors of a target by which it answers in this way, for messages to agents of this model."""
    match target:
        case Floor():
            return [Door(name="floor", wire="openai", url=target.provider.base_url, way=way, model=model)]
        case Foreign(at=at):
            if at.kind == "agui" and way == "blocking":
                return []  # AG-UI streams
            given = Door(name=target.name, wire=at.kind, url=at.url, way=way, key=at.key)
            return [msgspec.structs.replace(given, model=at.model or model)]
        case Relay():
            return [Door(name="relay", wire="relay", url=_root(target), way=way)]
        case Wakeful():
            root = _root(target)
            if way == "blocking":
                return [Door(name="ours, REST", wire="letta", url=root, way=way)]
            return [
                Door(name="ours, websocket", wire="websocket", url=root),
                Door(name="ours, SSE", wire="letta", url=root),
                Door(name="ours, AG-UI", wire="agui", url=f"{root}/v1/agui/agents/{{agent}}"),
            ]


def asking(door: Door, model: str) -> Door:
    """The same door for messages to agents of another model, where the door names the model."""
    if door.wire != "openai" or not door.model.startswith("fixed-"):
        return door
    return msgspec.structs.replace(door, model=model)


def agents(bench: Bench, target: Loaded, count: int, model: str) -> list[str]:
    """So many agents of a model, made when they are first needed and used again."""
    made = bench.once(("agents", target.name, model), list[str])
    if count > len(made):
        made += fresh(bench, target, count - len(made), model)
    return made[:count]


def fresh(bench: Bench, target: Loaded, count: int, model: str) -> list[str]:
    """Make agents that have answered once: what waking costs is not what load asks.

    The model answers that at once where it is the scripted one. Without agents a server gets names of lines.
    """
    answer = Reply(text="Awake.", match=WAKE, repeat="forever")
    bench.once(("wake",), lambda: asyncio.run(bench.provider.script([answer])) or True)
    match target:
        case Floor():
            return [f"line-{index}" for index in range(count)]
        case Foreign():
            made = target.make(count, model)
            target.wake(made)
        case Relay() | Wakeful():
            made = targets.create_agents(target, count, model)
            _wake(target, made)
    return made


def _wake(target: Relay | Wakeful, agents: Sequence[str]) -> None:
    (door,) = doors(target, "blocking", "")
    posts = [post(door, agent, WAKE, run="") for agent in agents]
    requests = [(one.path, one.body.decode()) for one in posts]
    slots = [Slot(requests[start::WAKING]) for start in range(min(WAKING, len(requests)))]
    targets.check(load.run(Job(port=cast("Target", target).port, slots=slots)))


def _root(target: Relay | Wakeful) -> str:
    return f"http://127.0.0.1:{cast('Target', target).port}"
