"""What each model's provider reports for our tokens, learned by every agent and kept over restarts."""

import logging

import anyio

from actors.tokens import Calibration
from storage import calibrations
from storage.calibrations import Learned
from storage.errors import StorageError
from storage.pool import Pool, connection

log = logging.getLogger("wakeful.host")

SAVE_EVERY = 60.0  # seconds
SAVE_SECONDS = 5.0
MOST_MODELS = 1_000  # handles come from clients
MOST_SAMPLES = 1_000_000  # beyond a few they make no difference
NONE = Calibration()


class Calibrations:
    """One calibration per model handle, for all agents of the process: what a new one begins with.

    A step only writes to memory. `keep` stores what changed once a minute, and `save` in the end: a crash
    loses a minute of learning. Several processes learn each by itself; the last one's word is stored.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._by_model: dict[str, Calibration] = {}
        self._changed: set[str] = set()

    def of(self, handle: str) -> Calibration:
        """Return what is known of a model."""
        return self._by_model.get(handle, NONE)

    def observe(self, handle: str, *, ours: int, reported: int) -> None:
        """Take one call into account; see `tokens.Calibration.observe`."""
        before = self.of(handle)
        after = before.observe(ours=ours, reported=reported)
        if after is before or (handle not in self._by_model and len(self._by_model) >= MOST_MODELS):
            return
        self._by_model[handle] = after
        self._changed.add(handle)

    async def load(self) -> None:
        """Read what earlier processes learned. Where that fails it is learned anew."""
        try:
            async with connection(self._pool) as conn:
                found = await calibrations.load(conn, most=MOST_MODELS)
        except StorageError as error:
            log.warning("calibrations not read", extra={"reason": str(error)})
            return
        self._by_model = {x.model: Calibration(x.ratio, x.samples) for x in found}

    async def keep(self) -> None:
        """Store what changed, once a minute until cancelled."""
        while True:
            await anyio.sleep(SAVE_EVERY)
            await self.save()

    async def save(self) -> None:
        """Store what changed since the last time; what cannot be stored in time is kept for the next."""
        changed, self._changed = self._changed, set()
        if not changed:
            return
        learned = [
            Learned(model=handle, ratio=known.ratio, samples=min(known.samples, MOST_SAMPLES))
            for handle in changed
            for known in (self._by_model[handle],)
        ]
        try:
            with anyio.fail_after(SAVE_SECONDS):
                async with connection(self._pool) as conn:
                    await calibrations.save(conn, learned)
        except (StorageError, TimeoutError) as error:
            self._changed |= changed
            log.warning("calibrations not stored", extra={"reason": str(error)})
