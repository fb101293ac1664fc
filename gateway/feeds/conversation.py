"""The channel of one conversation: its log, event for event, encoded once for all who follow it."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from actors.channels import Channel
from actors.events import Event, Position
from gateway.feeds import frames, shown_events
from gateway.feeds.channel_access import Place
from gateway.feeds.choices import Choice
from gateway.feeds.frames import publication
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, fail
from gateway.realtime.protocol import Subscribe

CONFLATE_ABOVE = 2000  # missed events; more are sent with their adjacent fragments joined
READ_EVENTS = 50_000  # for one answer: reading them takes about 0.1 s; a gap of more is not recovered
RECOVERY_BYTES = 4 << 20  # of the publications in one answer; a larger gap is not recovered

Missed = list[tuple[int, Event]]
E = TypeVar("E")


class ConversationFeed:
    """Shows one log. Offsets and epoch of its publications are those of the log itself.

    It listens while it has subscribers. `forget` is called when the last one left.
    """

    __slots__ = ("_forget", "_head", "_last", "_stop", "audience", "channel", "name", "place")

    def __init__(
        self, channel: Channel, place: Place, *, forget: Callable[["ConversationFeed"], None]
    ) -> None:
        self.name = f"conv:{channel.id}"
        self.channel = channel
        self.place = place
        self.audience = Audience(self._left)
        self._forget = forget
        self._head = frames.head_of(self.name)
        self._last: tuple[str | None, bytes] = (None, b"")
        self._stop: Callable[[], None] | None = None

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        return self.channel.position

    def join(self, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe, and return what was missed: one step, so nothing falls between the two."""
        if self._stop is None:
            self._stop = self.channel.listen(self._hear)
        self.audience.join(member)
        return answer(self.position, missed(self.channel, request), request, member, self.publications)

    def publications(self, events: Iterable[tuple[int, Event]], choice: Choice) -> list[bytes]:
        """Return the publications of these events that `choice` wants."""
        thread, tags = self.channel.id, self._tags_of
        return [
            publication(offset, shown_events.image(event, thread), tags(event.run_id))
            for offset, event in events
            if choice.takes_event(event)
        ]

    def _hear(self, _channel: Channel, offset: int, event: Event) -> None:
        try:
            tags = self._tags_of(event.run_id)
            self.audience.send(
                frames.of_event(self.name, self._head, offset, event, thread=self.channel.id, tags=tags)
            )
        except Exception as error:  # noqa: BLE001 - the boundary to the agents; see `subscriptions.fail`
            fail(error, self.end)

    def _tags_of(self, run_id: str | None) -> bytes:
        if self._last[0] != run_id or not self._last[1]:
            self._last = (run_id, self._tags(run_id))
        return self._last[1]

    def _tags(self, run_id: str | None) -> bytes:
        return frames.tags_of(run=run_id, conv=self.channel.id, agent=self.channel.agent_id)

    def _left(self) -> None:
        self.stop()
        self._forget(self)

    def stop(self) -> None:
        """Hear no more."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def end(self, code: int, reason: str) -> None:
        """End every subscription."""
        self.audience.end(self.name, code, reason)


def missed(channel: Channel, request: Subscribe) -> Missed | None:
    """Return what a subscriber has to be sent first; None where not all of it is here any more.

    Without `recover` that is what the running run said so far.
    """
    if request.recover and request.epoch != channel.epoch:
        return None
    if request.recover:
        return since(request.offset, channel.next, channel.since)
    running = channel.running
    return [] if running is None else since(running.start - 1, channel.next, channel.since)


def since(offset: int, end: int, read: Callable[[int], list[E] | None]) -> list[E] | None:
    """Return what `read` finds after an offset; None where that is more than one answer may cost."""
    return None if end - offset > READ_EVENTS else read(offset)


def answer(
    position: Position,
    events: Missed | None,
    request: Subscribe,
    member: Subscription,
    publications: Callable[[Missed, Choice], list[bytes]],
) -> Subscribed:
    """Return the answer to a subscriber of a log: everything it missed, or nothing of it.

    Many events, and those of a subscriber with a rate, come with adjacent fragments joined.
    """
    found: list[bytes] | None = None
    if events is not None:
        if member.pace is not None or len(events) > CONFLATE_ABOVE:
            events = frames.conflated(events)
        found = publications(events, member.choice)
        if sum(map(len, found)) > RECOVERY_BYTES:
            found = None
    return Subscribed(
        epoch=position.epoch,
        offset=position.offset,
        recoverable=True,
        positioned=True,
        was_recovering=request.recover,
        recovered=request.recover and found is not None,
        publications=found or [],
        close=member.close,
    )
