"""The feeds that show logs: one for each conversation and each agent that somebody follows."""

from actors.channels import Channel
from actors.events import Position
from actors.host import Host
from gateway.feeds import history as feed_history
from gateway.feeds.agent import AgentFeed
from gateway.feeds.channel_access import Place
from gateway.feeds.choices import Choice
from gateway.feeds.conversation import ConversationFeed
from gateway.feeds.history import HistoryResult
from gateway.feeds.shelf import Shelf
from gateway.feeds.subscriptions import Subscribed, Subscription
from gateway.realtime.protocol import PERMISSION_REVOKED, History, Subscribe

KEEP_SECONDS = 300.0


class LogFeeds:
    """Makes feeds of logs at their first subscriber and forgets them after the last."""

    def __init__(self, host: Host, *, keep_seconds: float) -> None:
        self._host = host
        self._conversations: dict[str, ConversationFeed] = {}
        self._agents: dict[str, AgentFeed] = {}
        self._shelf = Shelf(keep_seconds, self._forget_agent)

    def place(self, channel: str) -> Place | None:
        """Return whose a channel is that has a feed."""
        kind, _, rest = channel.partition(":")
        found = self._conversations if kind == "conv" else self._agents if kind == "agent" else {}
        feed = found.get(rest)
        return None if feed is None else feed.place

    def join(self, place: Place, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe to a log; see `ConversationFeed.join`."""
        if place.address.kind == "conv":
            return self._conversation(place).join(member, request)
        return self._agent(place).join(member, request)

    async def history(self, place: Place, request: History, choice: Choice) -> HistoryResult:
        """Read a log; see `Feeds.history`.

        Raises:
            ProtocolError
        """
        if place.address.kind == "agent":
            feed = self._agent(place)
            self._left(feed)
            return await feed_history.of_agent(feed, request, choice)
        shown = self._conversations.get(place.address.id)
        if shown is None:
            shown = ConversationFeed(self._log(place), place, forget=self._forget_conversation)
        return await feed_history.of_conversation(shown, request, choice)

    def position(self, channel: str) -> Position | None:
        """Return where a log stands; None where there is none."""
        kind, _, rest = channel.partition(":")
        if kind == "conv":
            log = self._host.logs.channels.get(rest)
            return None if log is None else log.position
        feed = self._agents.get(rest) if kind == "agent" else None
        return None if feed is None else feed.position

    def conversation_gone(self, conversation_id: str) -> None:
        """End the channel of a conversation that was deleted."""
        if (feed := self._conversations.get(conversation_id)) is not None:
            feed.end(PERMISSION_REVOKED, "the conversation was deleted")

    def agent_gone(self, agent_id: str) -> None:
        """End the channels of an agent that was deleted."""
        for feed in [f for f in self._conversations.values() if f.channel.agent_id == agent_id]:
            feed.end(PERMISSION_REVOKED, "the agent was deleted")
        if (agent := self._agents.get(agent_id)) is not None:
            agent.end(PERMISSION_REVOKED, "the agent was deleted")
            self._shelf.drop(agent)

    def close(self) -> None:
        """Stop listening."""
        self._shelf.close()
        for feed in tuple(self._agents.values()):
            self._forget_agent(feed)
        for feed in tuple(self._conversations.values()):
            feed.stop()

    # --- feeds --------------------------------------------------------------------------------------

    def _log(self, place: Place) -> Channel:
        assert place.agent_id is not None
        return self._host.logs.channel(place.address.id, place.agent_id)

    def _conversation(self, place: Place) -> ConversationFeed:
        feed = self._conversations.get(place.address.id)
        if feed is None:
            feed = ConversationFeed(self._log(place), place, forget=self._forget_conversation)
            self._conversations[feed.channel.id] = feed
        return feed

    def _forget_conversation(self, feed: ConversationFeed) -> None:
        if self._conversations.get(feed.channel.id) is feed:
            del self._conversations[feed.channel.id]

    def _agent(self, place: Place) -> AgentFeed:
        agent_id = place.address.id
        feed = self._agents.get(agent_id)
        if feed is None:
            logs = self._host.logs
            channels = [channel for channel in logs.channels.values() if channel.agent_id == agent_id]
            feed = self._agents[agent_id] = AgentFeed(logs, place, channels, left=self._left)
        self._shelf.take(feed)
        return feed

    def _left(self, feed: AgentFeed) -> None:
        """Keep the log of an agent for a while after its last subscriber left, if it has none."""
        if not len(feed.audience) and self._agents.get(feed.agent_id) is feed:
            self._shelf.put(feed)

    def _forget_agent(self, feed: AgentFeed) -> None:
        feed.stop()
        if self._agents.get(feed.agent_id) is feed:
            del self._agents[feed.agent_id]
