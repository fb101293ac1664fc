"""What a subscriber missed, given to it in pieces: as fast as its client takes them, never much at once."""

from contextlib import ExitStack
from typing import Generic, Protocol, TypeVar

from actors.channels import Channel
from actors.events import Event, Position
from gateway.feeds.choices import Choice
from gateway.feeds.subscriptions import Subscribed, Subscription
from gateway.realtime.protocol import Subscribe

PIECE_EVENTS = 2000  # read for one piece: about 2 ms
PIECE_BYTES = 384 * 1024  # of its publications, or one that is larger; with a full queue below 1 MiB
CONFLATE_ABOVE = 2000  # missed events; more are sent with their adjacent fragments joined

# An event at its offset, and in an agent's log with the conversation's.
E = TypeVar("E", tuple[int, Event], tuple[int, Channel | None, Event])


class ForgottenError(Exception):
    """Part of what a subscriber still has to be sent is not in the log any more."""


class Source(Protocol[E]):
    """A log as it is read for one subscriber."""

    @property
    def position(self) -> Position:
        """Where the log stands."""
        ...

    def read(self, after: int, most: int) -> list[E] | None:
        """Return the first events after an offset; None where one of them is forgotten.

        Fewer than `most` are all there are.
        """
        ...

    def conflated(self, entries: list[E], /) -> list[E]:
        """Return entries with adjacent fragments of one stream joined, each at the offset of its last."""
        ...

    def publications(self, entries: list[E], choice: Choice, /) -> list[bytes]:
        """Return the publications of these events that `choice` wants."""
        ...


class CatchUp(Generic[E]):
    """What one subscriber has still to be sent, from an offset of a log on.

    While it is `behind`, the subscriber is sent nothing live: that is in the log too. The piece that comes
    to the log's end and the beginning of live delivery are one synchronous step.
    """

    def __init__(self, source: Source[E], member: Subscription, *, after: int) -> None:
        self._source = source
        self._member = member
        self._joins = member.pace is not None or source.position.offset - after > CONFLATE_ABOVE
        self.at = after
        member.behind = True

    @property
    def behind(self) -> bool:
        """Whether there is a further piece."""
        return self._member.behind

    def piece(self) -> list[bytes]:
        """Return the next publications, in order.

        Raises:
            ForgottenError: Some of them are not there any more.
        """
        entries = self._source.read(self.at, PIECE_EVENTS)
        if entries is None:
            raise ForgottenError
        last = self._source.position.offset if len(entries) < PIECE_EVENTS else entries[-1][0]
        if self._joins:
            entries = self._source.conflated(entries)
        shown: list[bytes] = []
        size = 0
        for entry in entries:
            made = self._source.publications([entry], self._member.choice)
            size += sum(map(len, made))
            if size > PIECE_BYTES and shown:
                break
            shown += made
            self.at = entry[0]
        else:
            self.at = last
        if self.at == self._source.position.offset:
            self._member.caught_up()
        return shown


def answer(source: Source[E], member: Subscription, request: Subscribe, *, after: int | None) -> Subscribed:
    """Return the answer to a subscriber of a log that missed what came `after`; None: it is not all here.

    It has the first piece, and stands at its end; what is more comes with `Subscribed.rest`.
    """
    position = source.position
    at, publications, rest = position.offset, list[bytes](), None
    with ExitStack() as undone:
        undone.callback(member.close)  # where the first piece cannot be shown
        if after is not None:
            rest = CatchUp(source, member, after=after)
            try:
                publications, at = rest.piece(), rest.at
            except ForgottenError:
                member.caught_up()
                after = None
        undone.pop_all()
    return Subscribed(
        epoch=position.epoch,
        offset=at,
        recoverable=True,
        positioned=True,
        was_recovering=request.recover,
        recovered=request.recover and after is not None,
        publications=publications,
        close=member.close,
        rest=rest if rest is not None and rest.behind else None,
    )
