"""When the process looks for garbage that is tied in circles: in quiet moments, and no more than it has to.

What a message makes is freed where it is let go; tests hold that. Circles come of what lives long: agents
that go to sleep, websockets that close. CPython looks for them by itself once enough objects were made, in
the middle of whatever is under way, and at all that is alive: with many agents in memory every stream stands
still for a hundred milliseconds and more. So here

- small looks, at what is new, come after more objects than CPython's own few hundred;
- where the process is quiet, all that came since the last look is looked at, and then set aside
  (`gc.freeze`): later looks leave it out, so each costs what is new and not what is there;
- what was set aside is looked at, too, where the process is quiet, now and then; and where it is never quiet,
  once it has doubled.

Nothing is lost by it: CPython's own look at everything new still comes, under load, where none came before.
"""

import gc
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager

from actors import clock

log = logging.getLogger("wakeful.garbage")

# Objects more than were freed, until CPython looks at the new ones; how many such looks until it looks at
# what outlived one; and how many of those until it looks at all that is not set aside. 700, 10 and 10 are its
# own. A look at 10,000 objects takes 1 ms, several on a crowded processor.
THRESHOLDS = (2_000, 5, 50)
TICK = 5.0  # seconds between two decisions
QUIET = 0.05  # of one processor, over a tick: who comes while so little is done seldom meets a pause
WHOLE_SECONDS = 600.0  # at least so long between two looks at what was set aside, in quiet moments
ROOM = 250_000  # objects; when this and as many again were set aside, they are looked at, quiet or not


class Keeper:
    """Decides at each tick what to look at, and looks. It belongs to the thread of the event loop."""

    def __init__(self) -> None:
        self._fulls = _fulls()
        self._whole_at = clock.monotonic()
        self._kept = gc.get_freeze_count()  # after the last look at everything
        self._aside = self._kept
        self._spent = time.thread_time()
        self._ticked_at = clock.monotonic()

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            await clock.sleep(TICK)
            self.tick(quiet=self._share() < QUIET)

    def tick(self, *, quiet: bool) -> None:
        """Look at what is due, and set aside what has been looked at."""
        if self._is_due(quiet=quiet):
            self._look_at_all()
        elif quiet and gc.get_count()[2]:
            gc.collect()
            self._set_aside()
        elif _fulls() != self._fulls:  # CPython looked by itself
            self._set_aside()

    def _is_due(self, *, quiet: bool) -> bool:
        """Say whether to look at what was set aside."""
        if self._aside > 2 * self._kept + ROOM:
            return True
        waited = clock.monotonic() - self._whole_at >= WHOLE_SECONDS
        return quiet and waited and self._aside != self._kept

    def _look_at_all(self) -> None:
        began = clock.monotonic()
        gc.unfreeze()
        found = gc.collect()
        self._set_aside()
        self._kept = self._aside
        self._whole_at = clock.monotonic()
        log.debug("looked at everything", extra={"found": found, "seconds": self._whole_at - began})

    def _set_aside(self) -> None:
        gc.freeze()
        self._aside = gc.get_freeze_count()
        self._fulls = _fulls()

    def _share(self) -> float:
        """Return how much of a processor this thread used since it was last asked."""
        spent, now = time.thread_time(), clock.monotonic()
        share = (spent - self._spent) / max(now - self._ticked_at, 1e-9)
        self._spent, self._ticked_at = spent, now
        return share


@contextmanager
def starting() -> Generator[None]:
    """Look for nothing while the process starts: imports make no garbage that is worth it. See `started`."""
    before = gc.get_threshold()
    gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.enable()


def started() -> Keeper:
    """Set aside what is alive now, which stays so, and begin to look; `Keeper.run` goes on with it."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
    return Keeper()


def _fulls() -> int:
    return gc.get_stats()[2]["collections"]
