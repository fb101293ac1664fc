"""A client of the realtime protocol, for programs in Python: one websocket, kept open, nothing told twice.

    async with connect("http://127.0.0.1:8283") as client:
        async with client.subscribe(f"conv:{agent_id}") as conversation:
            sent = await client.send(agent_id, "hello")
            async for item in conversation:
                print(item)

A connection that breaks is made again, and every subscription goes on where it stood. What the server
forgot meanwhile shows as a `Gap`. All waits are bounded: replies by `link.REPLY_SECONDS`, an absence
of the server by `Patience`.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import msgspec
from msgspec import Raw, Struct

from gateway.client import events as client_events
from gateway.client import frames
from gateway.client.errors import DeniedError
from gateway.client.frames import Connected
from gateway.client.keeper import Keeper, OnAway, Patience
from gateway.client.notices import OWN, Notices
from gateway.client.results import Answered, Block, Sent
from gateway.client.subscription import Publication, Subscription
from gateway.client.tokens import Token
from gateway.realtime.protocol import (
    PERMISSION_DENIED,
    History,
    Rpc,
    StreamPosition,
    SubscribeData,
)

T = TypeVar("T")


class Past(Struct, frozen=True):
    """What a channel said before, and where it stands."""

    publications: tuple[Publication, ...]
    epoch: str
    offset: int


class Client(Keeper):
    """A server to ask and to follow; `connect` makes one."""

    async def hello(self) -> Connected:
        """Return what the server said of itself when it accepted the connection.

        Raises:
            EndedError: It did not.
        """
        return (await self.connection()).accepted

    @asynccontextmanager
    async def subscribe(
        self, channel: str, *, max_rate: float | None = None, events: Sequence[str] = ()
    ) -> AsyncGenerator[Subscription]:
        """Follow a channel until the block ends. From the beginning of the block on nothing is missed.

        `max_rate` bounds the publications per second, by merging; `events` are patterns of their types.

        Raises:
            DeniedError: The server does not let this client follow it.
            EndedError: The client has ended.
            ValueError: The channel is followed already.
        """
        wish = SubscribeData(max_rate, list(events) or None) if max_rate or events else None
        subscription = Subscription(channel, wish)
        self.follow(subscription)
        try:
            await subscription.begun()
            yield subscription
        finally:
            await self.forget(subscription)

    @asynccontextmanager
    async def notices(self) -> AsyncGenerator[Notices]:
        """Follow what agents ask of this client's user, and what became of it, until the block ends.

        It begins now; what waits already is listed by `GET /v1/agents/{agent_id}/pending-requests`.

        Raises:
            DeniedError: This client's token opens no channel of its own.
            EndedError: The client has ended.
            ValueError: They are followed already.
        """
        own = [channel for channel in (await self.hello()).subs if channel.startswith(OWN)]
        if not own:
            raise DeniedError(PERMISSION_DENIED, "the token needs the scope agent:read to follow notices")
        async with self.subscribe(own[0]) as subscription:
            yield Notices(subscription)

    async def history(
        self, channel: str, *, limit: int, since: StreamPosition | None = None, reverse: bool = False
    ) -> Past:
        """Return at most `limit` publications of a channel, with `limit` 0 only where it stands.

        Raises:
            DeniedError, EndedError, LostError
        """
        reply = await self.call(History(channel, limit, since, reverse), repeat=True)
        found = reply.history or frames.Past()
        publications = (
            Publication(pub.offset, client_events.event(pub.data), pub.tags) for pub in found.publications
        )
        return Past(tuple(publications), found.epoch, found.offset)

    async def rpc(self, method: str, data: Mapping[str, Any], kind: type[T], *, repeat: bool = False) -> T:
        """Call a method and return its result as `kind`.

        `repeat` says that the method may be called twice: it is called again when the connection was lost
        before the answer came.

        Raises:
            DeniedError: The method failed.
            LostError: The connection was lost, and the server may have acted.
            EndedError: The client has ended.
        """
        reply = await self.call(Rpc(method, Raw(msgspec.json.encode(data))), repeat=repeat)
        assert reply.rpc is not None
        try:
            return msgspec.json.decode(reply.rpc.data, type=kind)
        except msgspec.ValidationError as error:
            raise DeniedError(0, f"{method} returned something else: {error}") from None

    async def send(
        self,
        agent: str,
        text: str | Sequence[Mapping[str, Any]],
        *,
        conversation: str | None = None,
        client_message_id: str | None = None,
        when_busy: str = "queue",
    ) -> Sent:
        """Send a text, or whole messages, to an agent, and return once that is durable. Never sends twice.

        Raises:
            As `rpc`, but for `LostError`: it is sent until it is acknowledged.
        """
        body = _present(
            agent=agent,
            conversation=conversation,
            messages=_messages(text),
            clientMessageId=client_message_id or str(uuid4()),
            whenBusy=when_busy,
        )
        return await self.rpc("agent.send", body, Sent, repeat=True)

    async def cancel(self, run: str) -> None:
        """End a run; one that is over stays as it is, and is a `DeniedError` with code 409.

        Raises:
            As `rpc`.
        """
        await self.rpc("run.cancel", {"run": run}, dict[str, Any], repeat=True)

    async def steer(
        self, run: str, text: str | Sequence[Mapping[str, Any]], *, client_message_id: str | None = None
    ) -> Sent:
        """Let a text, or whole messages, join a run at its next step. Never sends twice.

        Raises:
            As `send`.
        """
        body = {
            "run": run,
            "messages": _messages(text),
            "clientMessageId": client_message_id or str(uuid4()),
        }
        return await self.rpc("run.steer", body, Sent, repeat=True)

    async def resume(self, conversation: str, answers: Sequence[Answered]) -> Sent:
        """Answer all open interrupts of a conversation: its id, or the agent's for its own.

        Raises:
            As `send`.
        """
        resume = [_present(**msgspec.to_builtins(answer)) for answer in answers]
        body = {"conversation": conversation, "resume": resume}
        return await self.rpc("run.resume", body, Sent, repeat=True)

    async def tool_result(
        self,
        conversation: str,
        call: str,
        content: str | Sequence[Mapping[str, Any]],
        *,
        failed: bool = False,
    ) -> Sent:
        """Give an agent the result of a call that this client ran: text, or parts as REST takes them.

        Raises:
            As `send`.
        """
        status = "error" if failed else "success"
        body = {"conversation": conversation, "toolCallId": call, "content": content, "status": status}
        return await self.rpc("tool.result", body, Sent, repeat=True)

    async def update_memory(
        self, agent: str, label: str, value: str, *, if_version: int | None = None
    ) -> Block:
        """Change a memory block; with `if_version` only where it still has that version (else code 409).

        Raises:
            As `rpc`.
        """
        body = _present(agent=agent, label=label, value=value, ifVersion=if_version)
        return await self.rpc("memory.update", body, Block)

    async def context(self, conversation: str) -> dict[str, Any]:
        """Return what fills the window of a conversation: its id, or the agent's for its own.

        Raises:
            As `send`.
        """
        return await self.rpc("context.get", {"conversation": conversation}, dict[str, Any], repeat=True)


def _messages(text: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [{"role": "user", "content": text}] if isinstance(text, str) else text


def _present(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


@asynccontextmanager
async def connect(
    url: str,
    token: Token = None,
    *,
    name: str = "wakeful-python",
    patience: Patience = Patience(),  # noqa: B008 - frozen
    on_away: OnAway | None = None,
) -> AsyncGenerator[Client]:
    """Yield a client of the server at `url` (`http://host:port`) that stays connected until the block ends.

    It is usable at once: what is asked waits for the connection. `token` is an API key or a token, or makes
    a new one whenever one is needed; see `tokens.made` for one that fails. `on_away` is told of every attempt
    to connect that failed, and why.

    Raises:
        ValueError: `url` is no such address.
    """
    client = Client(url, token, name=name, patience=patience, on_away=on_away)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.live)
        try:
            yield client
        except Exception as error:  # noqa: BLE001 - raised below, so that no group wraps it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
