"""A run's events for an AG-UI stream: from the log, at places that stay, or rebuilt from what is stored."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from msgspec import Struct

from actors import telling
from actors.channels import Channel, Hand
from actors.commands import InputMessage
from actors.errors import LogTrimmedError
from actors.events import Event, Logged, MessageCommitted, RunFinished, RunStarted, RunSteered
from actors.host import Host
from gateway.agui import images as agui
from gateway.answers import Following, Waking
from gateway.errors import InvalidRequestError
from gateway.letta.messages import is_input
from storage import messages, pending
from storage.pending_records import PendingRequest
from storage.pool import connection
from storage.records import ImagePart, Message, Run, StopReason, TextPart, Usage

WHOLE = 2**63  # above every part of an event

_CURSOR = re.compile(r"(?:([0-9a-f]{1,32}):)?([0-9]{1,18})(?:\.([0-9]{1,9}))?")


class Place(Struct, frozen=True):
    """A place in a stream: up to and including this event of the log, or the first `part` of its images.

    Without an epoch it is a place in whatever log there is.
    """

    epoch: str
    offset: int
    part: int = WHOLE

    def covers(self, other: "Place") -> bool:
        """Say whether who is here has seen what ends at `other`."""
        if self.epoch not in ("", other.epoch):
            return False
        return (other.offset, other.part) <= (self.offset, self.part)


Placed = tuple[Place | None, Event]
PlacedHand = Callable[[str, int, Event], bool]  # as `Hand`, told of the log's epoch before the offset


def cursor(text: str) -> Place:
    """Return the place that an event's id names: `epoch:offset`, or `epoch:offset.part`.

    Raises:
        InvalidRequestError: It is none.
    """
    match = _CURSOR.fullmatch(text.strip())
    if match is None:
        raise InvalidRequestError("after (Last-Event-ID) must be epoch:offset, as events are", param="/after")
    return Place(match[1] or "", int(match[2]), WHOLE if match[3] is None else int(match[3]))


async def events(
    host: Host, run: Following, hand: PlacedHand | None = None
) -> AsyncGenerator[list[Placed], None]:
    """Yield a run's events from its first to its end, from the log or from what is stored.

    Deltas that `hand` takes the moment they are said are not yielded.

    Raises:
        LogTrimmedError: The run is not over, but nothing in this process works on it.
        NotFoundError, UnavailableError
    """
    waking = Waking(host, run)
    found: Run | None = None
    while found is None:
        channel = host.logs.channel(run.conversation_id, run.agent_id)
        batches = follow(channel, run.run_id, hand)
        try:
            async for batch in batches:
                yield [(Place(channel.epoch, one.offset), one.event) for one in batch]
            return
        except LogTrimmedError:
            found = await waking.ended()
        finally:
            await batches.aclose()
    yield [(None, event) for event in await read(host, found)]


def follow(
    channel: Channel, run_id: str, hand: PlacedHand | None = None
) -> AsyncGenerator[list[Logged], None]:
    """Yield a run's events as `Channel.follow` does, and besides what happens to memory, and who joins it.

    Raises:
        LogTrimmedError: The run's events are not, or no longer, in memory.
    """
    return channel.follow(run_id, _placing(channel, hand), beside=_beside)


def _placing(channel: Channel, hand: PlacedHand | None) -> Hand | None:
    return None if hand is None else lambda offset, event: hand(channel.epoch, offset, event)


def _beside(event: Event, following: str) -> bool:
    """Say whether an event that is not the run's own concerns it: memory, or a run that joins it."""
    return isinstance(event, agui.MEMORY) or (isinstance(event, RunSteered) and event.into == following)


async def read(host: Host, run: Run) -> list[Event]:
    """Return the events of a finished run as far as its messages tell them.

    Raises:
        LogTrimmedError: Nothing is left of it.
    """
    async with connection(host.pool) as conn:
        stored = await messages.whole_run(conn, run.id)
        waiting = (await pending.of_conversations(conn, [run.conversation_id])).get(run.conversation_id)
    if not stored and run.error is None:
        raise LogTrimmedError(run.id)
    return rebuilt(run, stored, waiting if waiting is not None and waiting.run_id == run.id else None)


def rebuilt(run: Run, stored: Sequence[Message], waiting: PendingRequest | None) -> list[Event]:
    """Return the events that a finished run's stored messages stand for. Pure."""
    inputs = tuple(_input(m) for m in stored if m.role in ("user", "system") and is_input(m))
    ended = finish(run.id, waiting)
    committed: list[Event] = [MessageCommitted(run.id, message) for message in stored]
    return [
        RunStarted(run.id, run.conversation_id, run.attempt + 1, inputs, run.background),
        *committed,
        *telling.ending(
            RunFinished(
                run.id,
                run.status,
                _stop_reason(run),
                run.usage,
                run.error,
                ended.interrupts,
                ended.interrupts_expire_at,
            )
        ),
    ]


def _input(message: Message) -> InputMessage:
    content = tuple(part for part in message.content if isinstance(part, TextPart | ImagePart))
    role = "user" if message.role == "user" else "system"
    return InputMessage(role=role, content=content, name=message.name, otid=message.otid or message.id)


def finish(run_id: str, waiting: PendingRequest | None, last: Run | None = None) -> RunFinished:
    """Return the end of a run that did nothing: with what the conversation waits for, or as `last` ended."""
    if waiting is None:
        if last is None:
            return RunFinished(run_id, "completed", "end_turn", Usage())
        return RunFinished(run_id, last.status, _stop_reason(last), Usage(), last.error)
    return RunFinished(
        run_id,
        "completed",
        "requires_approval",
        Usage(),
        interrupts=waiting.calls,
        interrupts_expire_at=waiting.expires_at,
    )


def _stop_reason(run: Run) -> StopReason:
    reason: Any = run.stop_reason or "end_turn"  # the column holds stop reasons alone
    return reason
