"""The channel of one agent: all its conversations as one ordered log, told apart by their tags."""

from collections.abc import Callable, Iterable

from actors.channels import Channel, Logs
from actors.events import Event, Position
from gateway.feeds import catching_up, frames, shown_events
from gateway.feeds.agent_log import AgentLog, Begun, Entry
from gateway.feeds.channel_access import Place
from gateway.feeds.choices import Choice
from gateway.feeds.conversation import place_of
from gateway.feeds.frames import publication
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, fail
from gateway.realtime.protocol import Subscribe

MAX_TAGS = 64  # kept encoded: one for each run that speaks


class AgentFeed:
    """Shows every conversation of an agent. The log lives as long as the feed does."""

    def __init__(
        self, logs: Logs, place: Place, channels: Iterable[Channel], *, left: Callable[["AgentFeed"], None]
    ) -> None:
        self.place = place
        self.agent_id = place.address.id
        self.name = f"agent:{self.agent_id}"
        self.log = AgentLog()
        self.log.seed(channels)
        self.audience = Audience(lambda: left(self))
        self._voice = frames.Voice(self.name, self._tags)
        self._known: dict[tuple[str | None, str], bytes] = {}
        self._stop = logs.watch(self.agent_id, self._hear)

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        return self.log.position

    def join(self, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe, and return what was missed: one step, so nothing falls between the two."""
        self.audience.join(member)
        begun = None if request.recover else self.log.begun()
        first = None if begun is None else min(begun.starts.values(), default=None)
        after = place_of(self.position, request, first)
        if after is not None and begun is None and not self.log.holds(after):
            after = None
        return catching_up.answer(_Reader(self, begun), member, request, after=after)

    def publications(self, entries: Iterable[Entry], choice: Choice) -> list[bytes]:
        """Return the publications of these events that `choice` wants."""
        return [
            publication(offset, shown_events.image(event, thread), self._tags(event.run_id, thread))
            for offset, channel, event in entries
            for thread in (_thread(channel),)
            if choice.takes_event(event)
        ]

    def _hear(self, channel: Channel | None, offset: int, event: Event) -> None:
        place = self.log.append(channel, offset, event)
        if len(self.audience):
            self._tell(channel, place, event)

    def _tell(self, channel: Channel | None, place: int, event: Event) -> None:
        try:
            frame = self._voice.frame(place, event, _thread(channel))
            self.audience.send(frame, more=channel is not None and channel.more > 0)
        except Exception as error:  # noqa: BLE001 - the boundary to the agents; see `subscriptions.fail`
            fail(error, self.end)

    def _tags(self, run_id: str | None, thread: str) -> bytes:
        key = (run_id, thread)
        tags = self._known.get(key)
        if tags is None:
            if len(self._known) >= MAX_TAGS:
                self._known.clear()
            tags = self._known[key] = frames.tags_of(run=run_id, conv=thread or None, agent=self.agent_id)
        return tags

    def stop(self) -> None:
        """Hear no more: the log ends here."""
        self._stop()

    def end(self, code: int, reason: str) -> None:
        """End every subscription."""
        self.audience.end(self.name, code, reason)


class _Reader:
    """An agent's log as one subscriber reads it: from a place on, or of the past only the runs that run."""

    def __init__(self, feed: AgentFeed, begun: Begun | None) -> None:
        self._log = feed.log
        self._begun = begun
        self.publications = feed.publications

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return self._log.position

    def read(self, after: int, most: int) -> list[Entry] | None:
        """Return the first events after an offset; None where one is forgotten."""
        if self._begun is None:
            return self._log.since(after, most)
        return self._log.told(self._begun, after, most)

    def conflated(self, entries: list[Entry]) -> list[Entry]:
        """Return entries with adjacent fragments of one stream joined."""
        return conflated(entries)


def _thread(channel: Channel | None) -> str:
    return "" if channel is None else channel.id


def conflated(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries with adjacent fragments of one stream joined; see `frames.conflated`."""
    kept = list(entries)
    channels = {offset: channel for offset, channel, _ in kept}
    joined = frames.conflated((offset, event) for offset, _, event in kept)
    return [(offset, channels[offset], event) for offset, event in joined]
