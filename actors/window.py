"""Which messages a model is sent: what fits its window, and how a broken history is mended."""

import hashlib
import uuid
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from actors.tokens import estimate
from storage.records import Message, Part, Role, ToolCallPart, ToolReturnPart

INTERRUPTED = (
    "This call was interrupted before its result was recorded. It may or may not have taken effect; "
    "check before you repeat it."
)
CALLERS = frozenset({"assistant", "approval"})  # roles whose tool calls are sent to the model
FIRST_POSITION = 1  # position 0 is the system prompt, which is never part of the window


class Entry(Struct, frozen=True, gc=False):
    """A message of the window, encoded for the provider and counted once.

    Thousands live in memory: 56 bytes beside `wire`. `calls` counts the tool calls that it makes. A
    stored message that the provider sees as several (a row of three tool results) is several entries
    at one position.
    """

    position: int
    role: Role
    tokens: int
    wire: bytes
    calls: int = 0


class Fit(Struct, frozen=True, gc=False):
    """What of a window fits: `entries[start:]`, `tokens` in all; `evicted` messages stay behind."""

    start: int
    from_position: int
    evicted: int
    tokens: int


def fit(entries: Sequence[Entry], window_tokens: int) -> Fit:
    """Return the longest suffix of `entries` within `window_tokens`.

    A tool result is never kept without its call, nor a call without its results: providers refuse a
    pair that is split. The history must be one that `repair` leaves alone. Where not even the newest
    unit fits, nothing is kept. O(n) in entries; nothing is counted again. A move of the window costs
    the provider's prefix cache: who moves it should ask for less than the limit, to move it rarely.
    """
    start, kept, total, unanswered = len(entries), 0, 0, 0
    for index in range(len(entries) - 1, -1, -1):
        entry = entries[index]
        total += entry.tokens
        if total > window_tokens:
            break
        unanswered += (entry.role == "tool") - entry.calls  # results whose call lies further back
        if entry.role != "tool" and unanswered <= 0:
            start, kept = index, total
    return Fit(start, _position_at(entries, start), len({e.position for e in entries[:start]}), kept)


class Cut(Struct, frozen=True, gc=False):
    """Where a window is cut: `entries[:start]` leave it, `evicted` of its `rows` messages.

    `tokens` is what stays; `from_position` the first position that does.
    """

    start: int
    from_position: int
    evicted: int
    rows: int
    tokens: int


def cut(
    entries: Sequence[Entry], *, share: float, budget_tokens: int, keep_from: int | None = None
) -> Cut | None:
    """Return where to cut so that `share` of the messages leaves, or `None` where nothing may.

    The cut nearest to `share` that splits no call from its results; of two equally near the earlier. It is
    moved back only as far as what stays needs to be within `budget_tokens`, and never into messages from
    position `keep_from` on. Without `keep_from` everything may leave. At least one message does.
    O(n) in entries.
    """
    cuts = _cuts(entries, keep_from)
    if not cuts:
        return None
    wanted = share * cuts[0].rows
    nearest = min(cuts, key=lambda c: (abs(c.evicted - wanted), c.evicted))
    later = [c for c in cuts if c.evicted >= nearest.evicted]
    return next((c for c in later if c.tokens <= budget_tokens), later[-1])


def _cuts(entries: Sequence[Entry], keep_from: int | None) -> list[Cut]:
    """Return every cut that leaves calls with their results, those that evict least first."""
    end = _position_at(entries, len(entries)) if keep_from is None else keep_from
    rows = len({e.position for e in entries})
    left = sum(e.tokens for e in entries)
    found: list[Cut] = []
    evicted = unanswered = 0
    for index in range(len(entries) + 1):
        position = _position_at(entries, index)
        whole = index == len(entries) or entries[index].role != "tool"
        if position > end:
            break
        if index and unanswered <= 0 and whole and position > entries[index - 1].position:
            found.append(Cut(index, position, evicted, rows, left))
        if index < len(entries):
            entry = entries[index]
            evicted += index == 0 or entries[index - 1].position < entry.position
            left -= entry.tokens
            unanswered += entry.calls - (entry.role == "tool")
    return found


def _position_at(entries: Sequence[Entry], index: int) -> int:
    if index < len(entries):
        return entries[index].position
    return entries[-1].position + 1 if entries else FIRST_POSITION


class Repaired(Struct, frozen=True):
    """A history in which each tool call has exactly one result, right behind it.

    `messages` is the whole history in order. `added` are the results that were missing, each at the
    position of the message it follows: store them under positions of their own only at the end of a
    history. `changed` are stored messages that lost an orphan or a repeated call, or are now excluded.
    """

    messages: tuple[Message, ...]
    added: tuple[Message, ...] = ()
    changed: tuple[Message, ...] = ()


def repair(messages: Sequence[Message], *, text: str = INTERRUPTED) -> Repaired:
    """Return `messages` such that every provider accepts their tool calls.

    A call without a result right behind it gets one that says `text`. A result without its call, a
    second result and a second call of the same id in one message are dropped; a message left without
    any result is marked excluded. Excluded messages are passed over. Repairing twice changes nothing
    more, and the ids of added messages depend only on the call.
    """
    return _Mender(text).mend(messages)


class _Mender:
    """One pass over a history; `_open` holds the calls that still wait for their result."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._mended: list[Message] = []
        self._added: list[Message] = []
        self._changed: list[Message] = []
        self._caller: Message | None = None
        self._open: dict[str, ToolCallPart] = {}
        self._behind = 0  # where in `_mended` a missing result belongs

    def mend(self, messages: Sequence[Message]) -> Repaired:
        for message in messages:
            if message.excluded:
                self._mended.append(message)
            elif message.role == "tool":
                self._take_results(message)
            else:
                self._close_calls()
                self._take_calls(message)
        self._close_calls()
        return Repaired(tuple(self._mended), tuple(self._added), tuple(self._changed))

    def _take_calls(self, message: Message) -> None:
        kept: list[Part] = []
        for part in message.content:
            if isinstance(part, ToolCallPart) and message.role in CALLERS:
                if part.id in self._open:
                    continue
                self._open[part.id] = part
            kept.append(part)
        if len(kept) < len(message.content):
            message = self._change(msgspec.structs.replace(message, content=tuple(kept)))
        self._caller = message
        self._mended.append(message)
        self._behind = len(self._mended)

    def _take_results(self, message: Message) -> None:
        kept = tuple(
            part
            for part in message.content
            if isinstance(part, ToolReturnPart) and self._open.pop(part.tool_call_id, None)
        )
        if not kept:
            self._mended.append(self._change(msgspec.structs.replace(message, excluded=True)))
            return
        if kept != message.content:
            message = self._change(msgspec.structs.replace(message, content=kept))
        self._mended.append(message)
        self._behind = len(self._mended)

    def _close_calls(self) -> None:
        for call in self._open.values():
            assert self._caller is not None
            previous = self._mended[self._behind - 1]
            result = _missing_result(self._caller, call, text=self._text, position=previous.position)
            self._mended.insert(self._behind, result)
            self._added.append(result)
            self._behind += 1
        self._open.clear()

    def _change(self, message: Message) -> Message:
        self._changed.append(message)
        return message


def _missing_result(caller: Message, call: ToolCallPart, *, text: str, position: int) -> Message:
    seed = hashlib.blake2b(f"{caller.id}\0{call.id}".encode("utf-8", "replace"), digest_size=16).digest()
    return Message(
        id=f"message-{uuid.UUID(bytes=seed, version=4)}",
        organization_id=caller.organization_id,
        agent_id=caller.agent_id,
        conversation_id=caller.conversation_id,
        position=position,
        role="tool",
        content=(ToolReturnPart(call.id, call.name, "error", text),),
        created_at=caller.created_at,
        run_id=caller.run_id,
        step_id=caller.step_id,
        tokens=estimate(text),
        interrupted=True,
    )
