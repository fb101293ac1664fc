"""Answers with what a run says: as one body when it is over, or as a stream while it lasts."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import msgspec
from msgspec import Struct
from starlette.responses import Response

from actors import clock
from actors.channels import Hand
from actors.errors import LogTrimmedError, ModelError
from actors.events import Event, Logged, MessageCommitted, RunFinished
from actors.host import Host
from gateway import app, endings, errors
from gateway.app import Context
from gateway.endings import Ending
from gateway.letta import messages as letta_messages
from gateway.letta import speech as letta_speech
from gateway.letta import stream as letta_stream
from gateway.letta.runs import LettaUsage, failure_of, refusal_of, usage_of
from gateway.letta.shapes import LettaMessage
from gateway.letta.speech import DEFAULT_VOICE, Voice
from gateway.letta.stream import Mode, Reducer
from gateway.reducing import Reducing
from gateway.sse import Direct, EventStream
from storage import messages, runs
from storage.pool import connection
from storage.records import Message, Run, RunError

ANSWER_SECONDS = 3600.0  # a client waits no longer than this for one body; the run itself goes on
WAKE_SECONDS = 60.0  # how long a run of an earlier process may take to be picked up again
WAKE_POLL = 0.25
FINISHED = ("completed", "failed", "cancelled")


class Following(Struct, frozen=True, kw_only=True):
    """A run to follow, and who may see it."""

    run_id: str
    agent_id: str
    conversation_id: str
    organization_id: str


class StopReasonOut(Struct, frozen=True, tag_field="message_type", tag="stop_reason"):
    """Why a run ended."""

    stop_reason: str


class LettaResponse(Struct, frozen=True, kw_only=True):
    """The answer to a request that does not stream. What the client sent is not repeated."""

    messages: tuple[LettaMessage, ...]
    stop_reason: StopReasonOut
    usage: LettaUsage
    logprobs: None = None
    turns: None = None


async def follow(host: Host, run: Following, hand: Hand | None = None) -> AsyncGenerator[list[Logged], None]:
    """Yield a run's events from its first to its `RunFinished`, from the log or from what is stored.

    Where the log is gone, messages of which the commit was seen already are not said again. Deltas that
    `hand` takes the moment they are said are not yielded.

    Raises:
        LogTrimmedError: The run is not over, but nothing in this process works on it.
        NotFoundError, UnavailableError
    """
    seen: set[str] = set()
    waking = Waking(host, run)
    stored: Run | None = None
    while stored is None:
        batches = host.ref(run.agent_id).follow(run.run_id, run.conversation_id, hand)
        try:
            async for batch in batches:
                _note_committed(batch, seen)
                yield batch
            return
        except LogTrimmedError:
            stored = await waking.ended()
        finally:
            await batches.aclose()
    rest = [message for message in await _messages(host, run) if message.id not in seen]
    yield letta_stream.replay(stored, rest)


def _note_committed(batch: list[Logged], seen: set[str]) -> None:
    for logged in batch:
        if type(logged.event) is MessageCommitted:
            seen.add(logged.event.message.id)


class Waking:
    """The wait for a run whose log is gone: it has ended, or is to be picked up again by some process."""

    def __init__(self, host: Host, run: Following) -> None:
        self._host = host
        self._run = run
        self._until: float | None = None

    async def ended(self) -> Run | None:
        """Return the run if it has ended; `None`, after a pause, means to look for its log again.

        Raises:
            LogTrimmedError: Nothing picked it up within `WAKE_SECONDS` of the first call.
            NotFoundError, UnavailableError
        """
        async with connection(self._host.pool) as conn:
            stored = await runs.get(conn, self._run.run_id, organization_id=self._run.organization_id)
        if stored.status in FINISHED:
            return stored
        now = clock.monotonic()
        self._until = self._until or now + WAKE_SECONDS
        if now >= self._until:
            raise LogTrimmedError(self._run.run_id)
        await clock.sleep(WAKE_POLL)
        return None


async def _messages(host: Host, run: Following) -> list[Message]:
    async with connection(host.pool) as conn:
        return await messages.whole_run(conn, run.run_id)


async def whole(
    ctx: Context,
    run: Following,
    include: frozenset[str] | None,
    *,
    compactions: bool = False,
    voice: Voice | None = DEFAULT_VOICE,
) -> Response:
    """Wait for the end of a run and answer with what the agent said, or with why it failed.

    `compactions` is for clients that want to be told when the window was shortened; `voice` names the tool
    by whose calls the agent speaks. A client that leaves ends nothing but its own answer.

    Raises:
        TimeoutError: The run took too long for one answer; it goes on.
        As `follow`.
    """
    with anyio.fail_after(ANSWER_SECONDS):
        said, finished = await _outcome(ctx.host, run)
    error = failure_of(finished.status, finished.stop_reason, finished.error)
    if error is not None:
        return _failed(error, refusal_of(finished.stop_reason, error), ctx.request_id)
    heard = (letta_speech.heard(message, voice) for message in said)
    shown = [one for message in heard for one in _shown(message, compactions=compactions)]
    return app.json(
        LettaResponse(
            messages=tuple(shown if include is None else letta_messages.only(shown, include)),
            stop_reason=StopReasonOut(finished.stop_reason),
            usage=usage_of(finished.usage, run.run_id),
        )
    )


async def _outcome(host: Host, run: Following) -> tuple[list[Message], RunFinished]:
    """Return the messages of a run as they were committed last, and its end."""
    said: dict[str, Message] = {}
    async with aclosing(follow(host, run, _pass_over)) as batches:
        async for batch in batches:
            if (end := _hear(batch, said)) is not None:
                return list(said.values()), end
    raise LogTrimmedError(run.run_id)


def _hear(batch: list[Logged], said: dict[str, Message]) -> RunFinished | None:
    """Take a batch's messages into `said`, by their ids; return the run's end where the batch has it."""
    for logged in batch:
        event = logged.event
        if isinstance(event, MessageCommitted):
            said[event.message.id] = event.message
        elif isinstance(event, RunFinished):
            return event
    return None


def _pass_over(_offset: int, _event: Event) -> bool:
    """Take a delta and do nothing with it: its message comes whole."""
    return True


def _shown(message: Message, *, compactions: bool) -> list[LettaMessage]:
    if message.role == "summary":
        return letta_messages.compaction(message, told=compactions)
    return [] if letta_messages.is_input(message) else letta_messages.show(message)


def _failed(error: RunError, kind: str, request_id: str) -> Response:
    """Answer with the model's failure. The run is over and kept: to ask again changes nothing."""
    found = errors.find(ModelError(error.message, kind=kind))
    return errors.render(msgspec.structs.replace(found, retry=False), request_id)


def stream(ctx: Context, run: Following, mode: Mode, *, pings: bool) -> EventStream:
    """Return the stream of a run. The first ping goes out at once and names the run."""
    reducer = Reducer(run.run_id, mode)

    def ping() -> bytes:
        return reducer.ping(clock.now())

    def give_up() -> bytes:
        return reducer.broken_off(endings.SILENT)

    direct = Direct()
    return EventStream(
        _chunks(ctx.host, run, reducer, direct, pings=pings),
        direct=direct,
        ping=ping if pings else None,
        ping_seconds=ctx.settings.keepalive_interval,
        give_up=give_up,
    )


async def _chunks(
    host: Host, run: Following, reducer: Reducer, direct: Direct, *, pings: bool
) -> AsyncGenerator[list[bytes], None]:
    """Yield the stream's events. After its first byte a failure can only be told in the stream itself."""
    if pings:
        yield [reducer.ping(clock.now())]
    ending = Ending(run.run_id)
    async with ending, aclosing(follow(host, run, hand_to(reducer, direct))) as batches:
        async for batch in batches:
            if chunks := reducer.feed(batch):
                yield chunks
    if not reducer.finished:
        yield [reducer.broken_off(ending.error)]


def hand_to(reducer: Reducing, direct: Direct) -> Hand:
    """Return what writes a delta `direct` where that is possible, which saves it a switch of tasks."""

    def hand(_: int, event: Event) -> bool:
        if not direct.ready():
            return False
        if chunks := reducer.say(event):
            direct.write(b"".join(chunks))
        return True

    return hand
