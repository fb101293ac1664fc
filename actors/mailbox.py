"""The hot head of an agent's inbox: what waits for one conversation, in lanes, and nothing else.

Its bound is kept where commands are accepted (`actors.load`), so a mailbox never refuses.
"""

from collections.abc import Iterator

from msgspec import Struct

from actors.commands import SendMessages
from storage.records import Usage


class Waiting(Struct, frozen=True, kw_only=True):
    """An accepted command in memory. `applied` says that an earlier life stored its input already.

    `attempt` is that of the run's row: 0 until an activation found the command waiting, so that each
    life of it tells its story under a number of its own. `accept` is how many seconds its acceptance took.
    """

    seq: int
    run_id: str
    command: SendMessages
    since: float
    accept: float = 0.0
    attempt: int = 0
    applied: bool = False
    usage: Usage = Usage()


class Mailbox:
    """Commands of one conversation: user before background, each lane in order of acceptance.

    What an earlier life began comes before all of them.
    """

    __slots__ = ("_background", "_user")

    def __init__(self) -> None:
        # Lists, not deques: an empty deque costs 600 bytes, and most mailboxes are empty.
        self._user: list[Waiting] = []
        self._background: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._user) + len(self._background)

    def __iter__(self) -> Iterator[Waiting]:
        yield from self._user
        yield from self._background

    def put(self, waiting: Waiting) -> None:
        """Add a command behind its lane's others; one that an earlier life began goes on before them."""
        if waiting.applied:
            self.put_first(waiting)
            return
        (self._background if waiting.command.lane == "background" else self._user).append(waiting)

    def put_first(self, waiting: Waiting) -> None:
        """Add a command before everything else that has not begun: it interrupts."""
        begun = next((i for i, w in enumerate(self._user) if not w.applied), len(self._user))
        self._user.insert(begun, waiting)

    def take(self) -> Waiting | None:
        """Remove and return the next command."""
        if self._user:
            return self._user.pop(0)
        return self._background.pop(0) if self._background else None

    def remove(self, run_id: str) -> Waiting | None:
        """Remove and return the command of this run, if it waits here."""
        for lane in (self._user, self._background):
            for waiting in lane:
                if waiting.run_id == run_id:
                    lane.remove(waiting)
                    return waiting
        return None
