"""Clients that lose their connection and come back, a log that goes on meanwhile, and what each must have."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from actors.channels import Channel
from actors.events import Event, Position
from gateway.agui import images as agui
from gateway.feeds.feeds import Feeds, Frame, Subscribed
from gateway.realtime.protocol import Subscribe, SubscribeData
from tests.gateway.feeding import CALLER, Stage, published

Shown = tuple[int, Any]  # an offset and the image that stands there


class Follower:
    """A client of one channel. It believes what it is told, and keeps its place as every SDK does."""

    def __init__(self, feeds: Feeds, channel: str, *, max_rate: float | None = None) -> None:
        self.channel = channel
        self.seen: list[Shown] = []  # since the last time it was told that it missed something
        self.lost = 0  # how often it was told so
        self.begun: int | None = None  # the place from which on it has everything
        self._feeds = feeds
        self._data = None if max_rate is None else SubscribeData(max_rate)
        self._place: Position | None = None
        self._live: Subscribed | None = None
        self._session: object = None

    async def connect(self) -> None:
        """Subscribe, from the last place on if there is one."""
        place = self._place
        request = Subscribe(
            self.channel,
            place is not None,
            "" if place is None else place.epoch,
            0 if place is None else place.offset,
            self._data,
        )
        session = self._session = _Session(self)
        answer = await self._feeds.subscribe(CALLER, request, session)
        self._live = answer
        recovering = place is not None
        if recovering and not answer.recovered:
            assert answer.publications == [], "never in part"
            self.lost += 1
            self.seen = []
            self.begun = answer.offset
        elif not recovering:
            first = published(answer.publications[0])["offset"] if answer.publications else None
            self.begun = answer.offset if first is None else first - 1
        at = place.offset if recovering and answer.recovered and place is not None else answer.offset
        self._place = Position(answer.epoch, at)
        for pub in answer.publications:
            self._take(pub)
        self._place = Position(answer.epoch, answer.offset)
        for frame in session.early:
            self._take(frame.pub)
        session.early = None

    def cut(self) -> None:
        """Lose the connection: what comes from here on is not seen."""
        if self._live is not None:
            self._live.close()
        self._live = self._session = None

    def heard(self, session: "_Session", frame: Frame) -> None:
        if session is self._session:
            self._take(frame.pub)

    def _take(self, pub: bytes) -> None:
        publication = published(pub)
        assert self._place is not None
        self.seen.append((publication["offset"], publication["data"]))
        self._place = Position(self._place.epoch, publication["offset"])


class _Session:
    """One connection. What is sent before the answer was read waits, as it does in a socket."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.early: list[Frame] | None = []

    def send(self, frame: Frame) -> None:
        if self.early is not None:
            self.early.append(frame)
        else:
            self._follower.heard(self, frame)

    def way(self, changed: Callable[[], None]) -> None:
        """There is no shorter way."""

    def ended(self, channel: str, code: int, reason: str) -> None:
        raise AssertionError(f"{channel} ended: {reason}")


def images(log: Sequence[tuple[int, Event]], thread: str) -> list[Shown]:
    """Return what a log shows, event for event."""
    return [(offset, agui_json(event, thread)) for offset, event in log]


def agui_json(event: Event, thread: str) -> Any:
    return published(agui.image(event, thread))


def faults(follower: Follower, log: Sequence[Shown]) -> list[str]:
    """Return how what a client has differs from what was said since it began."""
    expected = [shown for shown in log if follower.begun is not None and shown[0] > follower.begun]
    if follower.seen == expected:
        return []
    offsets = [offset for offset, _ in follower.seen]
    wanted = [offset for offset, _ in expected]
    return [f"{follower.channel}: it has {offsets}, of {wanted}"]


def text_faults(follower: Follower, log: Sequence[Shown]) -> list[str]:
    """Return the same of a client whose fragments are merged: its text, and all else, must be whole."""
    expected = [shown for shown in log if follower.begun is not None and shown[0] > follower.begun]
    one, other = _merged(follower.seen), _merged(expected)
    offsets = [offset for offset, _ in follower.seen]
    found = [] if one == other else [f"{follower.channel}: its text differs: {one} is not {other}"]
    if offsets != sorted(set(offsets)):
        found.append(f"{follower.channel}: out of order: {offsets}")
    return found


def _merged(shown: Sequence[Shown]) -> list[Any]:
    """Return events with stretches of one stream as one text."""
    out: list[Any] = []
    for _, data in shown:
        rest = {name: value for name, value in data.items() if name not in ("delta", "timestamp")}
        if isinstance(data.get("delta"), str) and out and out[-1][0] == rest:
            out[-1] = (rest, out[-1][1] + data["delta"])
        else:
            out.append((rest, data.get("delta", "")))
    return out


async def replayed(
    events: Sequence[Event], chance: random.Random, *, cuts: int, trimmed: bool = False
) -> tuple[list[str], int, int]:
    """Say a recorded run again while clients lose their connections at random events.

    Return what they have too much or too little, how many cuts there were, and how often a client was told
    that it missed something. Publishing and subscribing
    race: looking up whose a channel is takes a few passes of the loop, in which more is said.
    """
    stage = Stage(budget_bytes=6_000 if trimmed else 64 << 20)
    stage.access.pause = lambda: _pause(chance)
    conv, agent = f"conv:{stage.conversation}", f"agent:{stage.agent}"
    followers = [
        Follower(stage.feeds, conv),
        Follower(stage.feeds, agent),
        Follower(stage.feeds, conv, max_rate=1000),
    ]
    said: list[Shown] = []
    stage.channel.listen(lambda _, offset, event: said.append((offset, agui_json(event, stage.conversation))))
    _, witness = await stage.follow(agent)  # never cut
    done = 0
    speaking = True

    async def speak() -> None:
        nonlocal speaking
        while done < cuts:
            for event in events:
                stage.channel.publish(event)
                await anyio.lowlevel.checkpoint()
        speaking = False

    async def follow(follower: Follower) -> None:
        nonlocal done
        while speaking:
            await follower.connect()
            for _ in range(chance.randrange(2 * len(events))):
                await anyio.lowlevel.checkpoint()
            follower.cut()
            done += 1
            for _ in range(chance.randrange(len(events))):
                await anyio.lowlevel.checkpoint()
        await follower.connect()

    with anyio.fail_after(600):
        async with anyio.create_task_group() as group:
            group.start_soon(speak)
            for follower in followers:
                group.start_soon(follow, follower)
    await anyio.sleep(0.01)  # longer than a pace keeps anything
    whole, every, paced = followers
    found = faults(whole, said) + faults(every, said) + text_faults(paced, said)
    if witness.data != [data for _, data in said]:
        found.append("the one who was never cut has not heard everything")
    return found, done, sum(follower.lost for follower in followers)


async def _pause(chance: random.Random) -> None:
    for _ in range(chance.randrange(4)):
        await anyio.lowlevel.checkpoint()


async def cut_everywhere(events: Sequence[Event]) -> list[str]:
    """Cut clients at every event of a run, let them come back at later ones; return what went wrong."""
    found: list[str] = []
    for cut in range(len(events) + 1):
        stage = Stage(budget_bytes=64 << 20)
        names = (f"conv:{stage.conversation}", f"agent:{stage.agent}")
        back = sorted({cut, min(cut + 1, len(events)), (cut + len(events)) // 2, len(events)})
        followers = {at: [Follower(stage.feeds, name) for name in names] for at in back}
        everyone = [follower for both in followers.values() for follower in both]
        said: list[Shown] = []
        for follower in everyone:
            await follower.connect()
        for place in range(len(events) + 1):
            if place == cut:
                for follower in everyone:
                    follower.cut()
            for follower in followers.get(place, ()):
                await follower.connect()
            if place < len(events):
                stage.channel.publish(events[place])
                said.append((stage.channel.next - 1, agui_json(events[place], stage.conversation)))
        for follower in everyone:
            found += [f"cut at {cut}: {fault}" for fault in faults(follower, said)]
            found += [f"cut at {cut}: {follower.channel} was lost"] * follower.lost
    return found


def log_of(channel: Channel) -> list[Event]:
    """Return all that a log holds."""
    events = channel.since(channel.segments[0].start - 1)
    assert events is not None
    return [event for _, event in events]
