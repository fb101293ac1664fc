"""The AG-UI event stream of a run: followed in the log, rebuilt from storage, taken up where it was left."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec
from msgspec import Struct

from actors import telling
from actors.channels import Channel
from actors.errors import LogTrimmedError
from actors.events import Event, RunFinished, RunStarted, RunSteered, TextDelta
from actors.host import Host
from gateway import endings, expiring
from gateway.agui import images, source
from gateway.agui.projection import Ids, Projection
from gateway.agui.source import WHOLE, Place
from gateway.answers import Following
from gateway.endings import Ending
from gateway.feeds import agent_state
from gateway.sse import Direct, EventStream
from storage import agents, conversations, forks, messages
from storage.agents import Profile
from storage.pending_records import PendingRequest
from storage.pool import connection
from storage.records import JsonObject, Message, Run

KEEPALIVE_SECONDS = 15.0
HISTORY_MESSAGES = 1000  # the newest ones of a longer conversation are shown; `history` has the others
KEEPALIVE = b": keepalive\n\n"

_encode = msgspec.json.Encoder().encode


class Stream(Struct, frozen=True, kw_only=True):
    """What one client follows: a run, under the names it has for it, after what it has seen.

    `expires_at` is the end of its token, in seconds since the epoch.
    """

    run: Following
    ids: Ids
    thoughts: bool
    answering: bool = False
    after: Place | None = None
    expires_at: float | None = None


def response(host: Host, stream: Stream) -> EventStream:
    """Return the stream as a response. A client that leaves ends nothing but its own answer."""
    projection = Projection(
        stream.run.run_id,
        stream.ids,
        thoughts=stream.thoughts,
        answering=stream.answering,
        resuming=stream.after is not None,
    )

    direct = Direct()

    def broken_off(message: str, code: str) -> bytes:
        return b"".join(_frame(one) for one in projection.broken_off(message, code))

    return EventStream(
        expiring.until(
            _chunks(host, stream, projection, direct),
            stream.expires_at,
            last=lambda: b"" if projection.finished else broken_off(expiring.MESSAGE, expiring.CODE),
        ),
        ping=lambda: KEEPALIVE,
        ping_seconds=KEEPALIVE_SECONDS,
        give_up=lambda: broken_off(endings.SILENT.message, endings.SILENT.type),
        headers=((b"x-wakeful-run-id", stream.run.run_id.encode()),),
        direct=direct,
    )


async def idle(
    host: Host, stream: Stream, *, waiting: PendingRequest | None, last: Run | None
) -> EventStream:
    """Return the stream of a run that has nothing to do: how the conversation stands.

    It ends as that does: with what is waited for, else as the `last` run ended.
    """
    projection = Projection(stream.run.run_id, stream.ids, thoughts=stream.thoughts, answering=True)
    started = RunStarted(stream.run.run_id, stream.run.conversation_id, 1, ())
    await _prepare(host, stream, projection, started)
    ended = telling.ending(source.finish(stream.run.run_id, waiting, last))
    shown = [one for event in (started, *ended) for one in projection.feed(event)]

    async def chunks() -> AsyncGenerator[list[bytes], None]:
        yield [_frame(one) for one in shown]

    return EventStream(chunks(), ping=None, ping_seconds=KEEPALIVE_SECONDS, give_up=lambda: KEEPALIVE)


async def over(host: Host, stream: Stream) -> bool:
    """Say whether the client has seen the end of a run that is over, so that nothing follows."""
    channel, after = _channel(host, stream.run), stream.after
    if after is None:
        return False
    last = None
    try:
        async with aclosing(source.follow(channel, stream.run.run_id)) as batches:
            async for batch in batches:
                last = batch[-1].offset
    except LogTrimmedError:
        return False
    return last is not None and after.covers(Place(channel.epoch, last))


async def check(host: Host, stream: Stream, run: Run) -> None:
    """Make sure that something is left of a run that is over, before its stream begins.

    Raises:
        LogTrimmedError: Nothing is.
    """
    if _channel(host, stream.run).find(run.id) is None:
        await source.read(host, run)


def _channel(host: Host, run: Following) -> Channel:
    return host.logs.channel(run.conversation_id, run.agent_id)


# --- chunks ---------------------------------------------------------------------------------------


async def _chunks(
    host: Host, stream: Stream, projection: Projection, direct: Direct
) -> AsyncGenerator[list[bytes], None]:
    """Yield the stream's events. After its first byte a failure can only be told in the stream itself."""
    hand = _hand_to(projection, direct, stream.after)
    ending = Ending(stream.run.run_id)
    async with ending, aclosing(source.events(host, stream.run, hand)) as batches:
        async for batch in batches:
            if out := await _projected(host, stream, projection, batch):
                yield out
    if not projection.finished:
        error = ending.error
        yield [_frame(one) for one in projection.broken_off(error.detail or error.message, error.type)]


def _hand_to(projection: Projection, direct: Direct, after: Place | None) -> source.PlacedHand:
    """Return what writes a delta `direct` where that is possible, which saves it a switch of tasks."""

    text = _Text()

    def hand(epoch: str, offset: int, event: Event) -> bool:
        if not direct.ready():
            return False
        if type(event) is TextDelta and after is None:  # the path of every token
            direct.write(text.frame(epoch, offset, event))
        elif frames := _frames(projection.feed(event), Place(epoch, offset), after):
            direct.write(b"".join(frames))
        return True

    return hand


class _Text:
    """Makes the server-sent events of a text's fragments. What they have in common is encoded once."""

    __slots__ = ("_before", "_between", "_epoch", "_message_id")

    def __init__(self) -> None:
        self._epoch: str = ""
        self._message_id: str = ""
        self._before = self._between = b""

    def frame(self, epoch: str, offset: int, event: TextDelta) -> bytes:
        """Return what `_frame` makes of the image of a fragment, at its place."""
        if event.message_id != self._message_id or epoch != self._epoch:
            self._epoch, self._message_id = epoch, event.message_id
            self._before = b"id: %b:" % epoch.encode()
            self._between = b"\ndata: " + images.text_head(event.message_id)
        return b"%b%d%b%b}\n\n" % (self._before, offset, self._between, _encode(event.text))


async def _projected(
    host: Host, stream: Stream, projection: Projection, batch: Sequence[tuple[Place | None, Event]]
) -> list[bytes]:
    out: list[bytes] = []
    for place, event in batch:
        if isinstance(event, RunStarted | RunSteered | RunFinished):
            await _prepare(host, stream, projection, event)
        out += _frames(projection.feed(event), place, stream.after)
    return out


async def _prepare(host: Host, stream: Stream, projection: Projection, event: Event) -> None:
    if projection.wants_state(event):
        projection.knows_state(await _state(host, stream))
    if projection.wants_history(event):
        stored = await _history(host, stream.run)
        projection.knows_history(stored[-HISTORY_MESSAGES:], whole=len(stored) <= HISTORY_MESSAGES)


def _frames(shown: list[bytes], place: Place | None, after: Place | None) -> list[bytes]:
    """Return what an event became as server-sent events, each with the place that it ends at as its id."""
    if place is None:
        return [_frame(one) for one in shown]
    frames: list[bytes] = []
    last = len(shown)
    for number, one in enumerate(shown, 1):
        here = place if number == last else Place(place.epoch, place.offset, number)
        if after is None or not after.covers(here):
            frames.append(_frame(one, here))
    return frames


def _frame(shown: bytes, place: Place | None = None) -> bytes:
    if place is None:
        return b"data: %b\n\n" % shown
    if place.part == WHOLE:
        return b"id: %b:%d\ndata: %b\n\n" % (place.epoch.encode(), place.offset, shown)
    return b"id: %b:%d.%d\ndata: %b\n\n" % (place.epoch.encode(), place.offset, place.part, shown)


async def _history(host: Host, run: Following) -> list[Message]:
    """Return a conversation's messages, oldest first: the newest ones, and one more that are shown.

    Of a fork they are also those that it began with; one that was deleted under its run keeps its messages.
    """
    async with connection(host.pool) as conn:
        conversation = await conversations.get_deleted(conn, run.conversation_id, agent_id=run.agent_id)
        ancestors = await forks.ancestors(conn, conversation)
        found = await messages.list_newest(
            conn, run.conversation_id, limit=HISTORY_MESSAGES + 1, ancestors=ancestors
        )
    return found[::-1]


async def _state(host: Host, stream: Stream) -> JsonObject:
    """Return the agent's state: of one that is alive from hot memory, which is what is stored."""
    actor = host.alive(stream.run.agent_id)
    if actor is not None:
        agent, blocks = actor.agent, actor.block_list()
    else:
        profile = await _profile(host, stream.run)
        agent, blocks = profile.agent, profile.blocks
    state = agent_state.document(
        blocks, None, window=agent.settings.context_window_tokens, status="running", queue=0
    )
    del state["queue"]  # of the agent, not of this stream, which would not tell its changes
    return state if stream.thoughts else agent_state.without_memory(state)


async def _profile(host: Host, run: Following) -> Profile:
    async with connection(host.pool) as conn:
        return await agents.get(
            conn, run.agent_id, organization_id=run.organization_id, relations=frozenset({"blocks"})
        )
