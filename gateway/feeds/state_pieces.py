"""An agent's state as a newcomer is shown it: so much memory at a time, as fast as its client takes it."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from actors.events import Position
from gateway.feeds import agent_state, frames, json_patch
from gateway.feeds.agent_state import MEMORY, Document
from gateway.feeds.catching_up import PIECE_BYTES
from gateway.feeds.json_patch import Operation
from gateway.feeds.subscriptions import Subscription

NOWHERE = 0  # the offset of what is no place to come back to

_encode = msgspec.json.Encoder().encode


class State(Protocol):
    """The state as it is at any moment."""

    @property
    def name(self) -> str:
        """The channel."""
        ...

    @property
    def tags(self) -> bytes:
        """Those of every publication, as JSON."""
        ...

    @property
    def document(self) -> Document:
        """All of it. Whoever changes it makes a new one."""
        ...

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        ...


class StatePieces:
    """What one newcomer still has to be shown: a snapshot with the first blocks, then patches with others.

    Meanwhile it hears nothing live; what changed is shown once more at the end. All pieces but the last are
    at no place (offset 0, which clients take without moving): whoever is cut off in between has seen no
    state whole, and gets one when it comes again. A piece has `PIECE_BYTES`, or one block that is larger.
    """

    def __init__(self, state: State, member: Subscription) -> None:
        self._state = state
        self._member = member
        self._told = _seen(state.document, member)  # when all that waits is sent
        self._snapshot, self._waits = pieces(self._told)
        self._first = True
        member.behind = True

    @property
    def behind(self) -> bool:
        """Whether there is a further piece."""
        return self._member.behind

    def piece(self) -> list[bytes]:
        """Return the next publication, if its subscriber wants it."""
        first, self._first = self._first, False
        patch = [] if first else self._waits.pop(0)
        if not self._waits:
            now = _seen(self._state.document, self._member)
            self._waits = parts(json_patch.difference(self._told, now))
            self._told = now
        if not self._waits:
            self._member.caught_up()
        name, tags = self._state.name, self._state.tags
        offset = NOWHERE if self.behind else self._state.position.offset
        if first:
            frame = frames.of_snapshot(name, offset, self._snapshot, tags=tags)
            self._snapshot = {}
        else:
            frame = frames.of_patch(name, offset, patch, tags=tags)
        return [frame.pub] if self._member.choice.takes(frame) else []


def _seen(document: Document, member: Subscription) -> Document:
    return document if member.choice.thoughts else agent_state.without_memory(document)


def pieces(document: Document) -> tuple[Document, list[list[Operation]]]:
    """Return a state with as many blocks as one publication holds, and patches that add the others."""
    blocks = document.get(MEMORY, {}).get("blocks", {})
    if _surely_fits(blocks):
        return document, []
    added = json_patch.difference({MEMORY: {"blocks": {}}}, {MEMORY: {"blocks": blocks}})
    first, *others = parts(added)
    shown = dict(list(blocks.items())[: len(first)])
    return {**document, MEMORY: {"blocks": shown}}, others


def _surely_fits(blocks: Document) -> bool:
    """Say whether blocks are small however their text is escaped, which no encoding need tell."""
    chars = sum(
        len(label) + len(block["value"]) + len(block.get("description", ""))
        for label, block in blocks.items()
    )
    return chars * 6 + len(blocks) * 256 <= PIECE_BYTES


def parts(patch: Iterable[Operation]) -> list[list[Operation]]:
    """Return a patch as several, each of `PIECE_BYTES` at most or of one operation that is larger."""
    found: list[list[Operation]] = []
    size = 0
    for operation in patch:
        more = len(_encode(operation))
        if not found or size + more > PIECE_BYTES:
            found.append([])
            size = 0
        found[-1].append(operation)
        size += more
    return found
