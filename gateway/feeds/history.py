"""Reads a channel's log on demand: what came after a place, or the last publications.

A log is read in pieces, no more of them than are asked for, and others work between two of them.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from actors.channels import Channel
from actors.events import Event, Position
from gateway.feeds.agent import AgentFeed
from gateway.feeds.agent_log import Entry
from gateway.feeds.catching_up import PIECE_EVENTS
from gateway.feeds.choices import Choice
from gateway.feeds.conversation import ConversationFeed
from gateway.feeds.user import UserFeed
from gateway.realtime.protocol import BAD_REQUEST, UNRECOVERABLE_POSITION, History, ProtocolError

MAX_LIMIT = 1000
REPLY_BYTES = 512 * 1024  # of the publications in one answer: half of what a connection may have waiting
FIRST_EVENTS = 64  # read at once, at least; where that is not enough each piece is twice the one before

E = TypeVar("E")
P = TypeVar("P", tuple[int, Event], Entry)  # an event at its place


class HistoryResult(Struct, frozen=True):
    """Publications as JSON, in the order that was asked for, and where the channel stands."""

    publications: list[bytes]
    epoch: str
    offset: int


def check(request: History) -> None:
    """Check the bounds of a request before anything is read for it.

    Raises:
        ProtocolError: `limit` is out of bounds (107).
    """
    if not -1 <= request.limit <= MAX_LIMIT:
        raise ProtocolError(BAD_REQUEST, f"history: limit must be at most {MAX_LIMIT}, or -1 for that many")


async def of_conversation(feed: ConversationFeed, request: History, choice: Choice) -> HistoryResult:
    """Return publications of a conversation; see `Feeds.history`.

    Raises:
        ProtocolError: `since` is no place in what is kept (112).
    """
    channel = feed.channel
    position = channel.position
    if request.limit == 0:
        return HistoryResult([], position.epoch, position.offset)

    def takes(entry: tuple[int, Event]) -> bool:
        return choice.takes_event(entry[1])

    if request.since is not None and not request.reverse:
        wanted = await _first(channel.since, position, request, takes)
    else:
        before = _before(position, request)
        wanted = await _last(lambda end, most: _kept(channel, end, most), before, _most(request), takes)
    return _result(position, wanted, request, lambda picked: feed.publications(picked, choice))


async def of_agent(feed: AgentFeed, request: History, choice: Choice) -> HistoryResult:
    """Return publications of all of an agent's conversations; see `Feeds.history`.

    Raises:
        ProtocolError: `since` is no place in what is kept (112).
    """
    position = feed.position
    if request.limit == 0:
        return HistoryResult([], position.epoch, position.offset)

    def takes(entry: Entry) -> bool:
        return choice.takes_event(entry[2])

    if request.since is not None and not request.reverse:
        wanted = await _first(feed.log.since, position, request, takes)
    else:
        wanted = await _last(feed.log.kept, _before(position, request), _most(request), takes)
    return _result(position, wanted, request, lambda picked: feed.publications(picked, choice))


def of_user(feed: UserFeed, request: History, choice: Choice) -> HistoryResult:
    """Return what a user was asked; see `Feeds.history`.

    Raises:
        ProtocolError: `since` is no place in what is kept (112).
    """
    position = feed.position
    if request.limit == 0:
        return HistoryResult([], position.epoch, position.offset)
    if request.since is not None and not request.reverse:
        wanted = _known(_after(position, request, feed.interrupts.since))
    else:
        before = _before(position, request)
        wanted = [one for one in feed.interrupts.kept() if one.offset < before]
    seen = [one for one in wanted if feed.sees(one)]
    return _result(position, seen, request, lambda picked: feed.publications(picked, choice))


async def _first(
    since: Callable[[int, int], list[P] | None],
    position: Position,
    request: History,
    takes: Callable[[P], bool],
) -> list[P]:
    """Return the first events after the place that is named which are wanted, as far as `position`.

    Raises:
        ProtocolError: It is no place in what is kept (112).
    """
    most, found = _most(request), list[P]()
    part = _known(_after(position, request, lambda offset: since(offset, max(FIRST_EVENTS, most))))
    while part:
        found += [entry for entry in part if entry[0] <= position.offset and takes(entry)]
        if len(found) >= most or part[-1][0] >= position.offset:
            break
        await asyncio.sleep(0)
        part = _known(since(part[-1][0], PIECE_EVENTS))
    return found[:most]


async def _last(
    kept: Callable[[int, int], list[P]], before: int, most: int, takes: Callable[[P], bool]
) -> list[P]:
    """Return the last `most` events before an offset that are wanted and still there, in their order."""
    parts: list[list[P]] = []
    count, size = 0, max(FIRST_EVENTS, most)
    while part := kept(before, size):
        parts.append([entry for entry in part if takes(entry)])
        count += len(parts[-1])
        before = part[0][0]
        if count >= most:
            break
        size = min(2 * size, PIECE_EVENTS)
        await asyncio.sleep(0)
    return [entry for part in reversed(parts) for entry in part][-most:]


def _kept(channel: Channel, before: int, most: int) -> list[tuple[int, Event]]:
    """Return the last events of a log before an offset, in their order, as far as they are still there."""
    oldest = channel.segments[0].start if channel.segments else channel.next
    end = min(before, channel.next)
    first = max(oldest, end - most)
    return [] if first >= end else channel.since(first - 1, end - first) or []


def _most(request: History) -> int:
    return MAX_LIMIT if request.limit < 0 else request.limit


def _before(position: Position, request: History) -> int:
    """Return the offset before which publications are wanted: the place that is named, or the end."""
    if request.since is None:
        return position.offset + 1
    _check_epoch(position, request)
    return request.since.offset


def _after(position: Position, request: History, since: Callable[[int], list[E] | None]) -> list[E] | None:
    assert request.since is not None
    _check_epoch(position, request)
    return since(request.since.offset)


def _check_epoch(position: Position, request: History) -> None:
    since = request.since
    if since is not None and since.epoch and since.epoch != position.epoch:
        raise ProtocolError(UNRECOVERABLE_POSITION, "unrecoverable position: the log has begun anew")


def _known(events: list[E] | None) -> list[E]:
    if events is None:
        raise ProtocolError(UNRECOVERABLE_POSITION, "unrecoverable position: that part is no longer kept")
    return events


def _result(
    position: Position, wanted: Sequence[E], request: History, encode: Callable[[Iterable[E]], list[bytes]]
) -> HistoryResult:
    """Return as much as was asked for and one answer may hold: what is nearest to where it begins."""
    forward = request.since is not None and not request.reverse
    picked = wanted[: _most(request)] if forward else wanted[-_most(request) :]
    found = encode(picked)
    if not forward:
        found.reverse()
    size = 0
    for count, publication in enumerate(found):
        size += len(publication)
        if size > REPLY_BYTES and count:
            del found[count:]
            break
    if not forward and not request.reverse:
        found.reverse()
    return HistoryResult(found, position.epoch, position.offset)
