"""The feeds that show state: of agents, of the fleet, and of what users are asked."""

import asyncio
from collections.abc import Callable

from actors.channels import Channel
from actors.events import Event, Position
from actors.host import Host
from gateway.auth import Caller
from gateway.feeds.channel_access import Place
from gateway.feeds.choices import Choice
from gateway.feeds.fleet import Activity, FleetFeed, Key, key_of
from gateway.feeds.interrupt_log import INTERRUPTS, InterruptLog
from gateway.feeds.state import StateFeed
from gateway.feeds.subscriptions import Subscribed, Subscription
from gateway.feeds.user import UserFeed
from gateway.realtime.protocol import PERMISSION_DENIED, PERMISSION_REVOKED, ProtocolError, Subscribe
from storage.errors import NotFoundError

LOOK_EVERY = 0.5  # seconds
LOOK_AGENTS = 200  # looked at at once, some 20 µs each; ten thousand that all work are shown every 2.5 s
LOOK_PAUSE = 0.05

_UserKey = tuple[str, Key]  # the channel, and which agents it shows


def _user_key(caller: Caller) -> _UserKey:
    return f"user:{caller.user_id}", key_of(caller)


class StateFeeds:
    """Makes feeds of state at their first subscriber and forgets them after the last.

    Interrupts are listened to from the first user on, for good: whoever comes back shall find them.
    """

    def __init__(self, host: Host, *, look_every: float) -> None:
        self._host = host
        self._look_every = look_every
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._places: dict[str, Place] = {}
        self._states: dict[str, StateFeed] = {}
        self._fleets: dict[Key, FleetFeed] = {}
        self._activity: Activity | None = None
        self._users: dict[_UserKey, UserFeed] = {}
        self._interrupts: dict[str, InterruptLog] = {}
        self._stop: Callable[[], None] | None = None
        host.on_block.append(self._block_changed)

    def place(self, channel: str) -> Place | None:
        """Return whose a channel is that has a feed."""
        return self._places.get(channel)

    # --- agents -------------------------------------------------------------------------------------

    async def join_state(self, place: Place, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe to an agent's state, once it is known.

        Raises:
            ProtocolError: The agent is gone (103).
            UnavailableError, TimeoutError
        """
        feed = self._state(place)
        feed.waiting += 1
        try:
            await feed.ready()
            return feed.join(member, request)
        except NotFoundError:
            raise ProtocolError(PERMISSION_DENIED, "permission denied: there is no such agent") from None
        finally:
            feed.waiting -= 1
            self._state_left(feed)

    def _state(self, place: Place) -> StateFeed:
        agent_id = place.address.id
        feed = self._states.get(agent_id)
        if feed is None:
            feed = self._states[agent_id] = StateFeed(
                self._host, agent_id, organization_id=place.organization_id, left=self._state_left
            )
            self._places[feed.name] = place
            self._keep_looking()
        return feed

    def _state_left(self, feed: StateFeed) -> None:
        if not len(feed) and self._states.get(feed.agent_id) is feed:
            feed.stop()
            del self._states[feed.agent_id]
            self._places.pop(feed.name, None)

    def _block_changed(self, block_id: str) -> None:
        for feed in self._states.values():
            feed.block_changed(block_id)

    # --- the fleet ----------------------------------------------------------------------------------

    async def join_fleet(self, caller: Caller, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe to the fleet that the caller sees, once it is known.

        Raises:
            UnavailableError, TimeoutError
        """
        feed = self._fleet(caller)
        feed.waiting += 1
        try:
            await feed.ready()
            return feed.join(member, request)
        finally:
            feed.waiting -= 1
            self._fleet_left(feed)

    def _fleet(self, caller: Caller) -> FleetFeed:
        key = key_of(caller)
        feed = self._fleets.get(key)
        if feed is None:
            feed = self._fleets[key] = FleetFeed(self._host, key, left=self._fleet_left)
            if self._activity is None:
                self._activity = Activity(self._host)
            self._keep_looking()
        return feed

    def _fleet_left(self, feed: FleetFeed) -> None:
        if not len(feed) and self._fleets.get(feed.key) is feed:
            del self._fleets[feed.key]
        if not self._fleets and self._activity is not None:
            self._activity.stop()
            self._activity = None

    # --- looking ------------------------------------------------------------------------------------

    def _keep_looking(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._look_every, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._fleets or self._states:
            self._keep_looking()
        if self._activity is not None:
            self._activity.gather()
            if self._looking is None:
                self._look_at_some()
        for state in tuple(self._states.values()):
            state.look()

    def _look_at_some(self) -> None:
        """Show what some agents do, and a moment later what others do: nobody waits for a large fleet."""
        self._looking = None
        if self._activity is None:
            return
        looked = self._activity.look(LOOK_AGENTS)
        for fleet in tuple(self._fleets.values()):
            fleet.look(looked)
        if self._activity.waits:
            self._looking = asyncio.get_running_loop().call_later(LOOK_PAUSE, self._look_at_some)

    async def last(self, caller: Caller, place: Place, choice: Choice) -> tuple[Position, list[bytes]]:
        """Return the last state of an agent, or of the fleet, and where its channel stands.

        Raises:
            ProtocolError, UnavailableError, TimeoutError
        """
        feed = self._fleet(caller) if place.address.kind == "fleet" else self._state(place)
        feed.waiting += 1
        try:
            await feed.ready()
            return feed.position, feed.snapshot(choice)
        except NotFoundError:
            raise ProtocolError(PERMISSION_DENIED, "permission denied: there is no such agent") from None
        finally:
            feed.waiting -= 1
            if isinstance(feed, FleetFeed):
                self._fleet_left(feed)
            else:
                self._state_left(feed)

    # --- users --------------------------------------------------------------------------------------

    def join_user(self, caller: Caller, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe a user to what agents ask of people."""
        feed = self._users[_user_key(caller)] = self.user(caller)
        return feed.join(member, request)

    def user(self, caller: Caller) -> UserFeed:
        """Return the feed of a user: one that is not kept where nobody follows it."""
        if self._stop is None:
            self._stop = self._host.logs.watch_all(self._hear)
        key = _user_key(caller)
        feed = self._users.get(key)
        if feed is None:
            interrupts = self._interrupts.setdefault(caller.organization_id, InterruptLog())
            feed = UserFeed(key[0], interrupts, agents=caller.agents, left=lambda _: self._user_left(key))
        return feed

    def _user_left(self, key: _UserKey) -> None:
        self._users.pop(key, None)

    def _hear(self, channel: Channel | None, _offset: int, event: Event) -> None:
        if not isinstance(event, INTERRUPTS) or channel is None:
            return
        actor = self._host.alive(channel.agent_id)
        if actor is None:
            return
        organization_id = actor.agent.organization_id
        interrupts = self._interrupts.setdefault(organization_id, InterruptLog())
        interrupt = interrupts.append(channel.agent_id, channel.id, event)
        for (_, (organization, _)), feed in tuple(self._users.items()):
            if organization == organization_id:
                feed.show(interrupt)

    # --- the end ------------------------------------------------------------------------------------

    def agent_gone(self, agent_id: str) -> None:
        """End the channel of an agent that was deleted, and show the fleet without it."""
        if (feed := self._states.get(agent_id)) is not None:
            feed.end(PERMISSION_REVOKED, "the agent was deleted")
        for fleet in tuple(self._fleets.values()):
            fleet.gone(agent_id)

    def close(self) -> None:
        """Stop listening."""
        if self._block_changed in self._host.on_block:
            self._host.on_block.remove(self._block_changed)
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        self._timer = self._looking = None
        for feed in tuple(self._states.values()):
            feed.stop()
        if self._activity is not None:
            self._activity.stop()
            self._activity = None
        if self._stop is not None:
            self._stop()
            self._stop = None
        self._states.clear()
        self._fleets.clear()
