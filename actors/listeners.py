"""Who listens to a log: functions that are called inside `publish`, which neither block nor raise."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.events import Event

if TYPE_CHECKING:
    from actors.channels import Channel, Logs

Listener = Callable[["Channel", int, Event], None]  # the offset is that of the event
Watcher = Callable[["Channel | None", int, Event], None]  # None, at offset 0: it belongs to no conversation


class Ear:
    """A registered listener; `call` does nothing from its end on, even in the middle of a publish."""

    __slots__ = ("call",)

    def __init__(self, call: Listener | Watcher) -> None:
        self.call: Callable[[Any, int, Event], None] = call


def _deaf(_channel: "Channel | None", _offset: int, _event: Event) -> None:
    return None


class Ears:
    """Who listens to one thing. `all` is replaced, never changed: a publish under way goes on over it."""

    __slots__ = ("_logs", "all")

    def __init__(self, logs: "Logs") -> None:
        self._logs = logs
        self.all: tuple[Ear, ...] = ()

    def add(self, listener: Listener | Watcher) -> Callable[[], None]:
        """Call a listener from the next publish on; return what ends that. Ending it twice is no error."""
        ear = Ear(listener)
        self.all = (*self.all, ear)
        self._logs.heard += 1

        def end() -> None:
            ear.call = _deaf
            if ear in self.all:
                self.all = tuple(other for other in self.all if other is not ear)
                self._logs.heard -= 1

        return end
