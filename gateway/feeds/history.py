"""Reads a channel's log on demand: what came after a place, or the last publications."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from actors.channels import Channel
from actors.events import Event, Position
from gateway.feeds.agent import AgentFeed
from gateway.feeds.agent_log import Entry
from gateway.feeds.choices import Choice
from gateway.feeds.conversation import READ_EVENTS, ConversationFeed
from gateway.feeds.user import UserFeed
from gateway.realtime.protocol import BAD_REQUEST, UNRECOVERABLE_POSITION, History, ProtocolError

MAX_LIMIT = 1000
REPLY_BYTES = 512 * 1024  # of the publications in one answer: half of what a connection may have waiting

E = TypeVar("E")


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


def of_conversation(feed: ConversationFeed, request: History, choice: Choice) -> HistoryResult:
    """Return publications of a conversation; see `Feeds.history`.

    Raises:
        ProtocolError: `since` is no place in what is kept (112).
    """
    channel = feed.channel
    position = channel.position
    if request.limit == 0:
        return HistoryResult([], position.epoch, position.offset)
    if request.since is not None and not request.reverse:
        events = _known(_after(position, request, lambda offset: channel.since(offset, READ_EVENTS)))
    else:
        events = last_events(channel, _before(position, request), _most(request), choice.takes_event)
    wanted = [(offset, event) for offset, event in events if choice.takes_event(event)]
    return _result(position, wanted, request, lambda picked: feed.publications(picked, choice))


def of_agent(feed: AgentFeed, request: History, choice: Choice) -> HistoryResult:
    """Return publications of all of an agent's conversations; see `Feeds.history`.

    Raises:
        ProtocolError: `since` is no place in what is kept (112).
    """
    position = feed.position
    if request.limit == 0:
        return HistoryResult([], position.epoch, position.offset)
    entries: list[Entry]
    if request.since is not None and not request.reverse:
        entries = _known(_after(position, request, lambda offset: feed.log.since(offset, READ_EVENTS)))
    else:
        entries = feed.log.kept(_before(position, request), READ_EVENTS)
    wanted = [entry for entry in entries if choice.takes_event(entry[2])]
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


def last_events(
    channel: Channel, before: int, most: int, wanted: Callable[[Event], bool]
) -> list[tuple[int, Event]]:
    """Return the last `most` wanted events before an offset that the log still has, in their order.

    Reads no more segments than it needs: finished ones are compressed.
    """
    found: list[list[tuple[int, Event]]] = []
    count = 0
    end = before
    for segment in reversed(channel.segments):
        if segment.start >= end:
            continue
        events = enumerate(segment.read(segment.start), segment.start)
        part = [(offset, event) for offset, event in events if offset < end and wanted(event)]
        found.append(part)
        count += len(part)
        if count >= most:
            break
    everything = [event for part in reversed(found) for event in part]
    return everything[-most:]


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
