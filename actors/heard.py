"""What a conversation in memory remembers of what it was told: the ids of clients' messages. Pure."""

from collections.abc import Iterable, Sequence

from storage.records import Message
from storage.standing import RECENT

BYTES = 350  # of one message: two texts, and their place in a table


class Heard:
    """The latest messages that came with an otid, each with its run. Of more than `RECENT` the oldest go."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Iterable[tuple[str, str]] = ()) -> None:
        self._runs: dict[str, str] = {}
        for otid, run_id in runs:
            self._put(otid, run_id)

    def take(self, messages: Iterable[Message]) -> None:
        """Remember messages that are durable now."""
        for message in messages:
            if message.otid is not None and message.run_id is not None:
                self._put(message.otid, message.run_id)

    def among(self, otids: Sequence[str]) -> dict[str, str]:
        """Return the runs of those of these messages that were heard."""
        return {otid: self._runs[otid] for otid in otids if otid in self._runs}

    @property
    def size_bytes(self) -> int:
        """About what it costs in memory."""
        return BYTES * len(self._runs)

    def _put(self, otid: str, run_id: str) -> None:
        self._runs.pop(otid, None)  # said again, it is among the latest
        self._runs[otid] = run_id
        if len(self._runs) > RECENT:
            del self._runs[next(iter(self._runs))]
