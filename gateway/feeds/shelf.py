"""Feeds of agents' logs that nobody follows at the moment: kept for a while, within bounds."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from gateway.feeds.agent import AgentFeed

MAX_KEPT = 1000  # the one left first is forgotten first
MAX_SLICES = 200_000  # in all of them, about 100 bytes each


class Shelf:
    """Holds feeds until somebody comes back for them, or their time is over."""

    def __init__(self, seconds: float, forget: Callable[[AgentFeed], None]) -> None:
        self._seconds = seconds
        self._forget = forget
        self._kept: OrderedDict[AgentFeed, asyncio.TimerHandle] = OrderedDict()

    def put(self, feed: AgentFeed) -> None:
        """Keep a feed for its time, which begins anew."""
        self.take(feed)
        loop = asyncio.get_running_loop()
        self._kept[feed] = loop.call_later(self._seconds, self.drop, feed)
        while len(self._kept) > MAX_KEPT or sum(len(kept.log) for kept in self._kept) > MAX_SLICES:
            self.drop(next(iter(self._kept)))

    def take(self, feed: AgentFeed) -> None:
        """Somebody follows it again, or it is over. What is not here is no error."""
        timer = self._kept.pop(feed, None)
        if timer is not None:
            timer.cancel()

    def drop(self, feed: AgentFeed) -> None:
        """Forget a feed now."""
        self.take(feed)
        self._forget(feed)

    def close(self) -> None:
        """Forget all of them."""
        for feed in tuple(self._kept):
            self.drop(feed)
