"""Puts a reader of calls behind a decoder of answers: text that is a call becomes one. Pure."""

from typing import Protocol

from actors.errors import ModelError
from actors.llm.model import Finished, Piece, TextPiece, UsageReported
from actors.llm.stray_calls import StrayReader
from actors.llm.text_calls_stream import OfferedReader


class Decoder(Protocol):
    """What reads an answer: bytes in, pieces out (see `ChatDecoder`)."""

    done: bool
    failure: ModelError | None

    @property
    def ended(self) -> bool:
        """Whether the provider has named its finish reason."""
        ...

    def feed(self, chunk: bytes) -> list[Piece]:
        """Decode the next bytes of the body."""
        ...

    def close(self) -> list[Piece]:
        """End the body."""
        ...


class TextCallDecoder:
    """A decoder whose text goes through a reader of calls.

    `cut` says that the answer ended for its length within a call of which nothing was given out: the
    caller may ask again for a longer one.
    """

    def __init__(self, inner: Decoder, reader: OfferedReader | StrayReader) -> None:
        self.done = False
        self.failure: ModelError | None = None
        self.cut = False
        self._inner = inner
        self._reader = reader
        self._shown = False

    @property
    def strayed(self) -> bool:
        """Whether a model that was given tools natively wrote a call as text."""
        return self._reader.called and isinstance(self._reader, StrayReader)

    @property
    def called(self) -> bool:
        """Whether the text was a call."""
        return self._reader.called

    @property
    def ended(self) -> bool:
        """Whether the provider has named its finish reason."""
        return self._inner.ended

    def feed(self, chunk: bytes) -> list[Piece]:
        """Decode the next bytes of the body; see `ChatDecoder.feed`."""
        if not self._reader.settled:
            return self._take(self._inner.feed(chunk))
        pieces = self._inner.feed(chunk)
        self.failure, self.done = self._inner.failure, self._inner.done
        return pieces

    def close(self) -> list[Piece]:
        """End the body; see `ChatDecoder.close`."""
        return self._take(self._inner.close())

    def _take(self, given: list[Piece]) -> list[Piece]:
        pieces: list[Piece] = []
        for piece in given:
            if isinstance(piece, TextPiece):
                pieces += self._reader.feed(piece.text)
            elif isinstance(piece, Finished):
                pieces += self._end(piece)
            else:
                pieces.append(piece)
        self.failure = self._inner.failure
        self.done = self._inner.done
        if self._reader.over and not self.done and self.failure is None:
            self.done = True
            pieces.append(Finished("tool_calls" if self.called else "stop"))
        self._shown = self._shown or any(not isinstance(p, UsageReported | Finished) for p in pieces)
        return pieces

    def _end(self, finished: Finished) -> list[Piece]:
        rest = self._reader.close()
        if self._reader.cut and finished.reason == "length" and not self._shown:
            self.cut = True
        reason = "tool_calls" if self.called and finished.reason == "stop" else finished.reason
        return [*rest, Finished(reason)]
