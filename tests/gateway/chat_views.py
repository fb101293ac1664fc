"""A view that remembers, for tests of the chat."""

from gateway.chat.view import Kind


class Memory:
    """Whole messages, calls and results in order, beginnings that were taken back, and notices."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []
        self.dropped: list[str] = []
        self.notices: list[str] = []
        self._open: tuple[Kind, str] | None = None

    def begin(self, kind: Kind) -> None:
        assert self._open is None
        self._open = (kind, "")

    def text(self, text: str) -> None:
        assert self._open is not None
        self._open = (self._open[0], self._open[1] + text)

    def end(self) -> None:
        assert self._open is not None
        self.shown.append(self._open)
        self._open = None

    def drop(self) -> None:
        assert self._open is not None
        self.dropped.append(self._open[1])
        self._open = None

    def call(self, name: str, arguments: str) -> None:
        assert self._open is None
        self.shown.append(("call", f"{name} {arguments}"))

    def result(self, text: str, *, good: bool) -> None:
        assert self._open is None
        self.shown.append(("good" if good else "bad", text))

    def notice(self, text: str) -> None:
        self.notices.append(text)
