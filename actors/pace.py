"""The pace of work that nobody waits for: small pieces, with more time for everybody else between them."""

import anyio

from actors import clock

PIECE = 0.001  # seconds of work, after which others have their turn
REST = 4.0  # times as long as the work took: a fifth of the event loop is the most that such work gets
LONGEST = 0.02  # seconds of rest: on a crowded processor a piece seems longer than it was


class Pace:
    """One such piece of work after another. Ask `due` often, and `rest` where it is."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = clock.monotonic()

    def due(self) -> bool:
        """Say whether it is time to rest."""
        return clock.monotonic() - self._began >= PIECE

    async def rest(self) -> None:
        """Let others work. Whatever was true before may have changed."""
        await anyio.sleep(min(REST * (clock.monotonic() - self._began), LONGEST))
        self._began = clock.monotonic()
