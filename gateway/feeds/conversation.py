"""The channel of one conversation: its log, event for event, encoded once for all who follow it."""

from collections.abc import Callable, Iterable

from actors.channels import Channel
from actors.events import Event, Position
from gateway.feeds import catching_up, frames, shown_events
from gateway.feeds.channel_access import Place
from gateway.feeds.choices import Choice
from gateway.feeds.frames import publication
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, fail
from gateway.realtime.protocol import Subscribe

READ_EVENTS = 50_000  # reading them takes about 0.1 s in all; a gap of more is not recovered

Missed = list[tuple[int, Event]]


class ConversationFeed:
    """Shows one log. Offsets and epoch of its publications are those of the log itself.

    It listens while it has subscribers. `forget` is called when the last one left.
    """

    __slots__ = ("_forget", "_last", "_stop", "_voice", "audience", "channel", "name", "place")

    def __init__(
        self, channel: Channel, place: Place, *, forget: Callable[["ConversationFeed"], None]
    ) -> None:
        self.name = f"conv:{channel.id}"
        self.channel = channel
        self.place = place
        self.audience = Audience(self._left)
        self._forget = forget
        self._voice = frames.Voice(self.name, self._tags_of)
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
        running = self.channel.running
        after = place_of(self.position, request, None if running is None else running.start)
        return catching_up.answer(self, member, request, after=after)

    def read(self, after: int, most: int) -> Missed | None:
        """Return the first events after an offset; None where one is forgotten."""
        return self.channel.since(after, most)

    def conflated(self, entries: Missed) -> Missed:
        """Return events with adjacent fragments of one stream joined; see `frames.conflated`."""
        return frames.conflated(entries)

    def publications(self, events: Iterable[tuple[int, Event]], choice: Choice) -> list[bytes]:
        """Return the publications of these events that `choice` wants."""
        thread, tags = self.channel.id, self._tags_of
        return [
            publication(offset, shown_events.image(event, thread), tags(event.run_id, thread))
            for offset, event in events
            if choice.takes_event(event)
        ]

    def _hear(self, channel: Channel, offset: int, event: Event) -> None:
        try:
            self.audience.send(self._voice.frame(offset, event, channel.id), more=channel.more > 0)
        except Exception as error:  # noqa: BLE001 - the boundary to the agents; see `subscriptions.fail`
            fail(error, self.end)

    def _tags_of(self, run_id: str | None, _: str) -> bytes:
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


def place_of(position: Position, request: Subscribe, running: int | None) -> int | None:
    """Return the offset after which a subscriber is to be sent everything; None where that is not possible.

    Without `recover` that is where the running run begins, if there is one.
    """
    if not request.recover:
        after = position.offset if running is None else running - 1
    elif request.epoch == position.epoch:
        after = request.offset
    else:
        return None
    return after if 0 <= position.offset - after <= READ_EVENTS else None
