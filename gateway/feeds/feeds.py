"""The channels of this process: who may follow which, and the one feed behind each that somebody follows.

Nothing is heard or encoded for a channel that nobody follows. A subscription is live from the moment
`Feeds.subscribe` returns: joining and reading what was missed are one synchronous step, so every event is
either in the answer or sent after it, and none is in both.
"""

from actors.events import Position
from actors.host import Host
from gateway.auth import THOUGHTS, Caller
from gateway.feeds import choices
from gateway.feeds import history as feed_history
from gateway.feeds.channel_access import Access, Place
from gateway.feeds.choices import Choice
from gateway.feeds.frames import Frame, merge
from gateway.feeds.history import HistoryResult
from gateway.feeds.logs import KEEP_SECONDS, LogFeeds
from gateway.feeds.states import LOOK_EVERY, StateFeeds
from gateway.feeds.subscriptions import Sink, Subscribed, Subscription
from gateway.realtime.protocol import History, ProtocolError, Subscribe

__all__ = ["Feeds", "Frame", "HistoryResult", "Sink", "Subscribed", "merge"]


class Feeds:
    """Every feed of this process. Make one when the host runs, and close it before the host ends.

    An agent's log goes on for `keep_seconds` without subscribers, so that they can come back to it;
    `look_every` is the time between two publications of the fleet.
    """

    def __init__(
        self, host: Host, *, keep_seconds: float = KEEP_SECONDS, look_every: float = LOOK_EVERY
    ) -> None:
        self._host = host
        self._logs = LogFeeds(host, keep_seconds=keep_seconds)
        self._states = StateFeeds(host, look_every=look_every)
        self._access = Access(host.pool)
        host.logs.on_gone.append(self._gone)

    async def subscribe(self, caller: Caller, request: Subscribe, sink: Sink) -> Subscribed:
        """Follow a channel; what was missed is in the answer, all else goes to `sink` as it happens.

        Cancelled, it leaves nothing behind.

        Raises:
            ProtocolError: No such channel (102), not for this caller (103), or nonsense (107).
            UnavailableError, TimeoutError: The database did not say what has to be known.
        """
        choice = choices.choose(request.data, thoughts=THOUGHTS in caller.scopes)
        place = await self._admit(caller, request.channel)
        member = Subscription(sink, choice)
        match place.address.kind:
            case "conv" | "agent":
                return self._logs.join(place, member, request)
            case "user":
                return self._states.join_user(caller, member, request)
            case "state":
                return await self._states.join_state(place, member, request)
            case "fleet":
                return await self._states.join_fleet(caller, member, request)

    async def history(self, caller: Caller, request: History) -> HistoryResult:
        """Return publications that are kept: those after `since`, or the last `limit` ones.

        With `reverse` the newest comes first, and `since` is the place before which they are wanted.
        Of state there is only the last.

        Raises:
            ProtocolError: As `subscribe`, or `since` is no place in what is kept (112).
            UnavailableError, TimeoutError
        """
        feed_history.check(request)
        place = await self._admit(caller, request.channel)
        choice = choices.choose(None, thoughts=THOUGHTS in caller.scopes)
        if place.address.kind in ("conv", "agent"):
            return await self._logs.history(place, request, choice)
        return await self._of_state(caller, place, request, choice)

    async def _of_state(
        self, caller: Caller, place: Place, request: History, choice: Choice
    ) -> HistoryResult:
        if place.address.kind == "user":
            return feed_history.of_user(self._states.user(caller), request, choice)
        position, found = await self._states.last(caller, place, choice)
        return HistoryResult(found if request.limit else [], position.epoch, position.offset)

    def position(self, channel: str) -> Position | None:
        """Return where the log of a conversation or an agent stands; None where there is none."""
        return self._logs.position(channel)

    def allowed(self, caller: Caller, channel: str) -> bool:
        """Say whether a caller may go on following a channel that somebody follows already."""
        try:
            place = self._access.known(caller, channel) or self._logs.place(channel)
            place = place or self._states.place(channel)
        except ProtocolError:
            return False
        return place is not None and place.refuses(caller) is None

    async def aclose(self) -> None:
        """Stop listening. Subscriptions end with the connections they belong to."""
        if self._gone in self._host.logs.on_gone:
            self._host.logs.on_gone.remove(self._gone)
        self._logs.close()
        self._states.close()

    async def _admit(self, caller: Caller, channel: str) -> Place:
        """Return whose a channel is, once it is certain that the caller may follow it.

        Raises:
            ProtocolError, UnavailableError, TimeoutError
        """
        place = self._logs.place(channel) or self._states.place(channel)
        if place is None:
            place = await self._access.find(caller, channel)
        return place.check(caller)

    def _gone(self, agent_id: str, conversation_id: str | None) -> None:
        """A conversation, or with None an agent, was deleted: nobody follows it any more."""
        self._access.gone(conversation_id or agent_id)
        if conversation_id is not None:
            self._logs.conversation_gone(conversation_id)
            return
        self._logs.agent_gone(agent_id)
        self._states.agent_gone(agent_id)
