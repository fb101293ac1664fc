"""Feeds without a database, sinks that remember, and runs to publish: for tests of channels."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from actors.channels import Logs
from actors.events import (
    Event,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    TextEnded,
    TextStarted,
)
from actors.host import Host
from gateway.auth import Caller
from gateway.feeds.channel_access import Access, Place
from gateway.feeds.channel_names import Address
from gateway.feeds.feeds import Feeds, Frame, Subscribed
from gateway.realtime.protocol import PERMISSION_DENIED, ProtocolError, Subscribe, SubscribeData
from storage.pool import Pool
from storage.records import Timing, Usage

CALLER = Caller("test")
USAGE = Usage()
AT = datetime(2026, 1, 1, tzinfo=UTC)


def new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4()}"


class Recorder:
    """A sink that keeps what it is given. As a client would, it remembers where it is."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.over: list[tuple[str, int, str]] = []

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)

    def way(self, changed: Callable[[], None]) -> None:
        """There is no shorter way."""

    def ended(self, channel: str, code: int, reason: str) -> None:
        self.over.append((channel, code, reason))

    @property
    def offsets(self) -> list[int]:
        return [frame.offset for frame in self.frames]

    @property
    def data(self) -> list[dict[str, Any]]:
        return [published(frame.pub)["data"] for frame in self.frames]

    @property
    def text(self) -> str:
        return text_of(self.data)


def published(pub: bytes) -> dict[str, Any]:
    """Return a publication as a client reads it."""
    return msgspec.json.decode(pub, type=dict[str, Any])


def offsets_of(subscribed: Subscribed) -> list[int]:
    return [published(pub)["offset"] for pub in subscribed.publications]


def rest_of(subscribed: Subscribed) -> list[list[bytes]]:
    """Return what a subscriber still has to be sent, piece by piece; after that it is live."""
    pieces: list[list[bytes]] = []
    while subscribed.rest is not None and subscribed.rest.behind:
        pieces.append(subscribed.rest.piece())
    return pieces


def data_of(publications: list[bytes]) -> list[dict[str, Any]]:
    return [published(pub)["data"] for pub in publications]


def text_of(data: list[dict[str, Any]]) -> str:
    return "".join(one["delta"] for one in data if one["type"] == "TEXT_MESSAGE_CONTENT")


class _Logged:
    """As much of a host as feeds of logs need."""

    pool = None

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.on_block: list[Any] = []


class OpenAccess(Access):
    """Knows whose a channel is without a database: `owners` by id, all of one organisation."""

    def __init__(self, owners: dict[str, str]) -> None:
        super().__init__(cast("Pool", None))
        self.owners = owners
        self.looked_up = 0
        self.meanwhile: Callable[[], None] = lambda: None  # what happens while one is looked up
        self.pause: Callable[[], Awaitable[None]] | None = None

    async def _look_up(self, caller: Caller, address: Address) -> Place:
        self.looked_up += 1
        if address.id not in self.owners:
            raise ProtocolError(PERMISSION_DENIED, "no such channel")
        self.meanwhile()
        if self.pause is not None:
            await self.pause()
        return Place(address, caller.organization_id, self.owners[address.id])


class Stage:
    """One agent with one conversation beside its own, feeds on their logs, and runs to be said in them."""

    def __init__(self, *, budget_bytes: int = 1 << 20, **more: Any) -> None:
        self.logs = Logs(budget_bytes)
        self.agent = new_id("agent")
        self.conversation = new_id("conv")
        owners = {self.agent: self.agent, self.conversation: self.agent}
        self.feeds = Feeds(cast("Host", _Logged(self.logs)), **more)
        self.access = self.feeds._access = OpenAccess(owners)
        self.channel = self.logs.channel(self.conversation, self.agent)
        self.own = self.logs.channel(self.agent, self.agent)

    async def follow(
        self,
        channel: str,
        *,
        sink: Recorder | None = None,
        since: tuple[str, int] | None = None,
        caller: Caller = CALLER,
        events: list[str] | None = None,
        max_rate: float | None = None,
    ) -> tuple[Subscribed, Recorder]:
        sink = sink or Recorder()
        data = None if events is None and max_rate is None else SubscribeData(max_rate, events)
        epoch, offset = since or ("", 0)
        request = Subscribe(channel, since is not None, epoch, offset, data)
        return await self.feeds.subscribe(caller, request, sink), sink


def run_of(conversation_id: str, texts: list[str], *, thought: str | None = None) -> list[Event]:
    """Return the events of a whole run that says these texts."""
    run, step, message = new_id("run"), new_id("step"), new_id("message")
    events: list[Event] = [
        RunStarted(run, conversation_id, 1, ()),
        StepStarted(run, step, 1, "demo", message, AT),
    ]
    if thought is not None:
        events += [
            ReasoningStarted(run, message),
            ReasoningDelta(run, message, thought),
            ReasoningEnded(run, message),
        ]
    events += [
        TextStarted(run, message),
        *(TextDelta(run, message, text) for text in texts),
        TextEnded(run, message),
        StepFinished(run, step, USAGE, Timing()),
        RunFinished(run, "completed", "end_turn", USAGE),
    ]
    return events
