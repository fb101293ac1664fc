"""A client that follows a channel of state: what it shows is always snapshot and patches, nothing else."""

from collections.abc import Callable
from typing import Any

import anyio
import jsonpatch

from gateway.auth import LOOPBACK, Caller
from gateway.feeds.feeds import Feeds, Frame, Subscribed
from gateway.realtime.protocol import Subscribe, SubscribeData
from tests.gateway.feeding import published, rest_of

SECONDS = 10.0


class Viewer:
    """A sink that keeps the document of a channel of state up to date, as a client does."""

    def __init__(self) -> None:
        self.document: Any = None
        self.offset = 0
        self.taken = 0
        self.over: list[tuple[str, int, str]] = []

    def send(self, frame: Frame) -> None:
        self._take(frame.pub)

    def way(self, changed: Callable[[], None]) -> None:
        """There is no shorter way."""

    def ended(self, channel: str, code: int, reason: str) -> None:
        self.over.append((channel, code, reason))

    def begin(self, subscribed: Subscribed) -> None:
        for pub in subscribed.publications:
            self._take(pub)
        self.offset = subscribed.offset
        for piece in rest_of(subscribed):
            for pub in piece:
                self._take(pub)

    def _take(self, pub: bytes) -> None:
        publication = published(pub)
        data = publication["data"]
        assert publication["offset"] == 0 or publication["offset"] >= self.offset
        self.offset = publication["offset"] or self.offset
        self.taken += 1
        if data["type"] == "STATE_SNAPSHOT":
            self.document = data["snapshot"]
        else:
            assert data["type"] == "STATE_DELTA"
            self.document = jsonpatch.apply_patch(self.document, data["delta"])

    async def shows(self, condition: Callable[[Any], object]) -> None:
        """Wait until the document is as it shall be."""
        try:
            with anyio.fail_after(SECONDS):
                while not condition(self.document):
                    await anyio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"it shows {self.document}") from None


async def view(
    feeds: Feeds,
    channel: str,
    *,
    caller: Caller = LOOPBACK,
    since: tuple[str, int] | None = None,
    document: Any = None,
    max_rate: float | None = None,
) -> tuple[Viewer, Subscribed]:
    """Follow a channel of state; `document` is what the client has of an earlier subscription."""
    viewer = Viewer()
    viewer.document = document
    epoch, offset = since or ("", 0)
    data = None if max_rate is None else SubscribeData(max_rate)
    request = Subscribe(channel, since is not None, epoch, offset, data)
    subscribed = await feeds.subscribe(caller, request, viewer)
    viewer.begin(subscribed)
    return viewer, subscribed
