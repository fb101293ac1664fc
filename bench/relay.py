"""The honest lower bound: a minimal server that stores a message, asks the model, and stores the answer.

    python -m bench.relay --dsn … --provider http://127.0.0.1:…/v1 --port …

It uses what the server uses (Starlette, uvicorn with uvloop and httptools, aiohttp, msgspec, asyncpg) and
commits twice per message, as any server must that acknowledges only what it stored. It has no tools,
runs, checks, retries, resumable streams, nor recovery: what a real server adds is what the bench shows.
History is kept in memory, encoded already. Each message's phases are timed, by names that the server's own
phases have, and told at `/phases`, which forgets them: a few readings of the clock for each message.
"""

import argparse
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import uvicorn
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from yarl import URL

from storage.pool import Pool, connect, open_pool

SUMMARY = "The honest lower bound: stores a message, asks the model, stores the answer."
SCHEMA = """
create table if not exists agents (
  id text primary key, name text not null, settings jsonb not null,
  created_at timestamptz not null default now()
);
create table if not exists messages (
  id text primary key, agent_id text not null, position int not null, role text not null,
  content jsonb not null, created_at timestamptz not null default now(),
  unique (agent_id, position)
);
"""
INSERT_AGENT = "insert into agents (id, name, settings) values ($1, $2, $3)"
INSERT_MESSAGE = "insert into messages (id, agent_id, position, role, content) values ($1, $2, $3, $4, $5)"

KEPT_PHASES = 4096  # messages whose phases are kept until they are asked for

_encode = msgspec.json.encode


class NewAgent(Struct, frozen=True):
    """A request for an agent; `history` messages are made up for it."""

    name: str
    model: str
    history: int = 0
    history_text: str = ""


class Told(Struct, frozen=True):
    """A message for an agent."""

    agent: str
    text: str
    stream: bool = False


class Message(Struct, frozen=True):
    """A message as the provider reads it."""

    role: str
    content: str


class Answered(Struct, frozen=True, tag_field="message_type", tag="assistant_message"):
    """A piece of the answer, or all of it, as the client reads it."""

    content: str


class Delta(Struct, frozen=True):
    """What is new in an event of the provider."""

    content: str | None = None


class Choice(Struct, frozen=True):
    """The one choice of an event."""

    delta: Delta


class Chunk(Struct, frozen=True):
    """An event of the provider, as far as it is read."""

    choices: list[Choice]


class Phases(Struct):
    """Where the nanoseconds of one message went; `first_token` has the sending of the request in it."""

    accept: int = 0
    first_token: int = 0
    stream: int = 0
    checkpoint: int = 0


class Agent(Struct):
    """An agent in memory."""

    id: str
    model: bytes
    window: list[bytes]


class Relay:
    """The server's state and its two routes."""

    def __init__(self, dsn: str, provider_url: str) -> None:
        self._dsn = dsn
        self._url = URL(f"{provider_url}/chat/completions", encoded=True)
        self._headers = {"authorization": "Bearer sk-bench", "content-type": "application/json"}
        self._agents: dict[str, Agent] = {}
        self._phases = deque[Phases](maxlen=KEPT_PHASES)
        self._read_chunk = msgspec.json.Decoder(Chunk).decode
        self._pool: Pool
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        """Hold the database and the provider open while the server runs."""
        conn = await connect(self._dsn)
        await conn.execute(SCHEMA)
        await conn.close()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
        self._pool = await open_pool(self._dsn)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._session:
            yield
        await self._pool.close()

    async def create_agent(self, request: Request) -> Response:
        """Make an agent: one insert."""
        body = await request.body()
        new = msgspec.json.decode(body, type=NewAgent)
        agent_id = f"agent-{uuid4()}"
        await self._execute(INSERT_AGENT, agent_id, new.name, body)
        roles = ("user", "assistant")
        window = [_encode(Message(roles[i % 2], new.history_text)) for i in range(new.history)]
        self._agents[agent_id] = Agent(agent_id, _encode(new.model), window)
        return Response(_encode({"id": agent_id}), media_type="application/json")

    async def relay(self, request: Request) -> Response:
        """Store a message, ask the model, and return its answer, whole or as a stream."""
        told = msgspec.json.decode(await request.body(), type=Told)
        agent = self._agents[told.agent]
        phases = Phases()
        phases.accept = await self._store(agent, Message("user", told.text))
        if told.stream:
            return StreamingResponse(self._stream(agent, phases), media_type="text/event-stream")
        async with aclosing(self._ask(agent, phases)) as pieces:
            text = "".join([piece async for piece in pieces])
        phases.checkpoint = await self._store(agent, Message("assistant", text))
        self._phases.append(phases)
        return Response(_encode({"messages": [Answered(text)]}), media_type="application/json")

    async def phases(self, _: Request) -> Response:
        """Tell the phases of the messages since this was asked before."""
        told = Response(_encode(list(self._phases)), media_type="application/json")
        self._phases.clear()
        return told

    async def _stream(self, agent: Agent, phases: Phases) -> AsyncGenerator[bytes]:
        said: list[str] = []
        async with aclosing(self._ask(agent, phases)) as pieces:
            async for piece in pieces:
                said.append(piece)
                yield b"data: %b\n\n" % _encode(Answered(piece))
        phases.checkpoint = await self._store(agent, Message("assistant", "".join(said)))
        self._phases.append(phases)
        yield b"data: [DONE]\n\n"

    async def _ask(self, agent: Agent, phases: Phases) -> AsyncGenerator[str]:
        began = time.monotonic_ns()
        body = b'{"model":%b,"stream":true,"messages":[%b]}' % (agent.model, b",".join(agent.window))
        async with self._session.post(
            self._url, data=body, headers=self._headers, allow_redirects=False
        ) as answer:
            answer.raise_for_status()
            tail = b""
            while data := await answer.content.readany():
                phases.first_token = phases.first_token or time.monotonic_ns() - began
                *events, tail = (tail + data).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: {"):
                        for choice in self._read_chunk(event[6:]).choices:
                            if choice.delta.content:
                                yield choice.delta.content
        phases.stream = time.monotonic_ns() - began - phases.first_token

    async def _store(self, agent: Agent, message: Message) -> int:
        """Write a message; return the nanoseconds that it took."""
        began = time.monotonic_ns()
        content = _encode(message)
        position = len(agent.window)
        agent.window.append(content)
        await self._execute(INSERT_MESSAGE, f"message-{uuid4()}", agent.id, position, message.role, content)
        return time.monotonic_ns() - began

    async def _execute(self, statement: str, *values: object) -> None:
        conn = await self._pool.acquire()
        try:
            await conn.execute(statement, *values)
        finally:
            await self._pool.release(conn)


def app(dsn: str, provider_url: str) -> Starlette:
    """The relay as an ASGI application."""
    relay = Relay(dsn, provider_url)
    routes = [
        Route("/agents", relay.create_agent, methods=["POST"]),
        Route("/relay", relay.relay, methods=["POST"]),
        Route("/phases", relay.phases, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=relay.lifespan)


def main() -> None:
    """Run the relay from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=SUMMARY)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "lifespan": "on"}
    uvicorn.run(
        app(args.dsn, args.provider), port=args.port, access_log=False, log_level="warning", **options
    )


if __name__ == "__main__":
    main()
