"""The window of a closed loop: from the end of its first round to the end of a later one. Pure.

Lines that all wait with the server are answered in waves. A window of so many seconds would hold two waves of
one level and three of another, and where a wave takes longer than the window, none. Whole rounds, and the
time that they took, are the rate at every level.
"""


class Rounds:
    """Counts answers, failed ones too, by rounds of as many as are under way. Times are nanoseconds.

    The window begins at the start, or with the round during which it is warm; it ends with the round by which
    it is long enough and has rounds enough, or with the last whole one before `last_ns`.
    """

    def __init__(self, size: int, *, least: int, started_ns: int, warm_ns: int, until_ns: int, last_ns: int):
        self._size = size
        self._least = least
        self._warm_ns = warm_ns
        self._enough_ns = until_ns - warm_ns
        self._last_ns = max(last_ns, until_ns)
        self._answers = self._rounds = 0
        self._from_ns = started_ns if warm_ns <= started_ns else None
        self._until_ns = 0
        self._ended = False

    def answered(self, now_ns: int) -> None:
        """Take note of an answer, or of a failure in its place."""
        if self._ended or now_ns > self._last_ns:
            return
        self._answers += 1
        if self._answers % self._size:
            return
        if self._from_ns is None:
            self._from_ns = now_ns if now_ns >= self._warm_ns else None
            return
        self._rounds += 1
        self._until_ns = now_ns
        self._ended = self._rounds >= self._least and now_ns - self._from_ns >= self._enough_ns

    def over(self, now_ns: int) -> bool:
        """Whether nothing more is to be said."""
        return self._ended or now_ns > self._last_ns

    @property
    def window(self) -> tuple[int, int] | None:
        """From when to when whole rounds were answered; None where not one was."""
        return (self._from_ns, self._until_ns) if self._from_ns is not None and self._rounds else None
