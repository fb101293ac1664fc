"""Patches of memory: a unified diff of one block, or operations on several. Text in, text out; pure."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

from msgspec import Struct

from actors.memory import MemoryEditError, quoted

_HEADER = re.compile(r"\*\*\* (Add Block|Delete Block|Update Block|Move to): *(.*)")
_BEGIN, _END = "*** Begin Patch", "*** End Patch"
_RANGE = re.compile(r"@@+ *-(\d+)(?:,(\d+))?")
_NAMED_PLACES = 20
MAX_PARTS = 200  # of one patch: each is looked for in the whole block
_NO_NEWLINE = "\\ "  # "\ No newline at end of file": blocks do not have that difference


class Hunk(Struct, frozen=True):
    """Lines that are there and what stands there afterwards.

    `lines` are (sign, text) in the order of the patch: ' ' stays, '-' goes, '+' comes. `line` is where the
    patch says they begin, counted from 1, or None; it decides only between places that fit alike.
    """

    lines: tuple[tuple[str, str], ...]
    line: int | None = None

    @property
    def old(self) -> tuple[str, ...]:
        """The lines as they must be found."""
        return tuple(text for sign, text in self.lines if sign != "+")

    @property
    def new(self) -> tuple[str, ...]:
        """The lines that come."""
        return tuple(text for sign, text in self.lines if sign == "+")


class Add(Struct, frozen=True):
    """Create a block."""

    label: str
    value: str

    @property
    def header(self) -> str:
        """The line of the patch that asks for it."""
        return f"*** Add Block: {self.label}"


class Delete(Struct, frozen=True):
    """Detach a block."""

    label: str

    @property
    def header(self) -> str:
        """The line of the patch that asks for it."""
        return f"*** Delete Block: {self.label}"


class Update(Struct, frozen=True):
    """Patch a block, and perhaps relabel it."""

    label: str
    hunks: tuple[Hunk, ...]
    move_to: str | None = None

    @property
    def header(self) -> str:
        """The line of the patch that asks for it."""
        return f"*** Update Block: {self.label}"


Operation = Add | Delete | Update


class Patch(Struct, frozen=True):
    """Either hunks for one block, or operations that name theirs."""

    hunks: tuple[Hunk, ...] = ()
    operations: tuple[Operation, ...] = ()


# --- reading -----------------------------------------------------------------------------------


def parse(text: str) -> Patch:
    """Return what a patch asks for.

    Raises:
        MemoryEditError: It is empty or malformed; the text says how to write one.
    """
    lines = text.split("\n")
    while lines and lines[-1].strip() in ("", _END):
        lines.pop()
    while lines and lines[0].strip() in ("", _BEGIN):
        lines.pop(0)
    if not lines:
        raise MemoryEditError("the patch is empty; send lines that begin with '-', '+' or a space")
    if not any(_HEADER.match(line) for line in lines):
        return Patch(hunks=_hunks(lines))
    return Patch(operations=tuple(_operations(lines)))


def _operations(lines: Sequence[str]) -> Iterable[Operation]:
    if _HEADER.match(lines[0]) is None:
        raise MemoryEditError(
            f"the patch begins with {quoted(lines[0])}; begin it with *** Add Block:, *** Delete Block: or "
            "*** Update Block:"
        )
    starts = [i for i, line in enumerate(lines) if _is_start(line)]
    if starts[:1] != [0]:
        raise MemoryEditError("*** Move to: belongs right below the *** Update Block: that it moves")
    if len(starts) > MAX_PARTS:
        raise MemoryEditError(f"the patch has {len(starts)} operations; send at most {MAX_PARTS} at once")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield _operation(lines[start], lines[start + 1 : end])


def _is_start(line: str) -> bool:
    header = _HEADER.match(line)
    return header is not None and header[1] != "Move to"


def _operation(header: str, body: Sequence[str]) -> Operation:
    found = _HEADER.match(header)
    assert found is not None
    kind, label = found[1], found[2].strip()
    while body and not body[-1].strip():  # an empty line before the next header is only for the eye
        body = body[:-1]
    if not label:
        raise MemoryEditError(f"{quoted(header)} names no block; write the label after the colon")
    if kind == "Add Block":
        return Add(label, "\n".join(_added(line) for line in body))
    if kind == "Delete Block":
        if body:
            raise MemoryEditError(f"{quoted(header)} has no lines below it, unlike {quoted(body[0])}")
        return Delete(label)
    move_to = None
    if body and (move := _HEADER.match(body[0])) is not None:
        move_to, body = move[2].strip(), body[1:]
        if not move_to:
            raise MemoryEditError("*** Move to: names no label; write it after the colon")
    hunks = _hunks(body)
    if not hunks and move_to is None:
        raise MemoryEditError(f"{quoted(header)} changes nothing; add lines that begin with '-' or '+'")
    return Update(label, hunks, move_to)


def _added(line: str) -> str:
    if line and not line.startswith("+"):
        raise MemoryEditError(f"every line of an added block begins with '+', unlike {quoted(line)}")
    return line[1:]


def _hunks(lines: Sequence[str]) -> tuple[Hunk, ...]:
    """Return the hunks of a unified diff; one without any `@@` line is one hunk."""
    if len(lines) >= 2 and lines[0].startswith("--- ") and lines[1].startswith("+++ "):
        lines = lines[2:]
    hunks: list[Hunk] = []
    begin: int | None = None
    body: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("@@"):
            hunks += _hunk(body, begin)
            body, begin = [], _begin(line)
        elif not line.startswith(_NO_NEWLINE):
            body.append(_signed(line))
    hunks += _hunk(body, begin)
    if len(hunks) > MAX_PARTS:
        raise MemoryEditError(f"the patch has {len(hunks)} parts; send at most {MAX_PARTS} at once")
    return tuple(hunks)


def _signed(line: str) -> tuple[str, str]:
    """Return a line of a hunk as its sign and its text."""
    if not line:  # a context line whose one space was lost
        return " ", ""
    if line[0] not in "+- ":
        raise MemoryEditError(
            f"the line {quoted(line)} of the patch begins with neither '-', '+', a space nor '@@'; "
            "begin lines that stay with one space"
        )
    return line[0], line[1:]


def _hunk(body: list[tuple[str, str]], begin: int | None) -> list[Hunk]:
    return [Hunk(tuple(body), begin)] if any(sign != " " for sign, _ in body) else []


def _begin(line: str) -> int | None:
    """Return the line that a hunk says it begins at: of an empty range, the one after the line it names."""
    found = _RANGE.match(line)
    if found is None:
        return None
    return int(found[1][:9]) + (1 if found[2] is not None and not int(found[2][:9]) else 0)


# --- applying ----------------------------------------------------------------------------------


class _Text:
    """A block's lines as one text that whole lines are looked for in; as they are, or without last spaces."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self._whole = _joined(lines)

    @cached_property
    def stripped(self) -> "_Text":
        """The same without the spaces at the end of each line, which patches tend to lose."""
        return _Text([line.rstrip() for line in self.lines])

    def places(self, wanted: Sequence[str]) -> list[int]:
        """Return the indices of the lines where `wanted` begins: the first ones, in linear time."""
        sought = _joined(wanted)
        found: list[int] = []
        start = self._whole.find(sought)
        while start != -1 and len(found) < _NAMED_PLACES:
            found.append(self._whole.count("\n", 0, start))
            start = self._whole.find(sought, start + 1)
        return found

    def has_at(self, place: int, wanted: Sequence[str]) -> bool:
        """Say whether `wanted` stands there."""
        return place >= 0 and list(self.lines[place : place + len(wanted)]) == list(wanted)


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(("", *lines, ""))


def patched(value: str, hunks: Sequence[Hunk], *, label: str) -> str:
    """Return `value` with every hunk applied at its one place. Places are those before the patch.

    Raises:
        MemoryEditError: The lines of a hunk are not there, or in several places, or hunks overlap.
    """
    lines = value.split("\n") if value else []
    text = _Text(lines)
    places = sorted(((_place(text, hunk, label=label), hunk) for hunk in hunks), key=lambda placed: placed[0])
    result: list[str] = []
    done = 0
    for place, hunk in places:
        if place < done:
            raise MemoryEditError(
                f"two parts of the patch change the same lines of memory block `{label}`, "
                f"around line {place + 1}; make them one"
            )
        result += lines[done:place]
        done = place
        for sign, line in hunk.lines:
            if sign == "+":
                result.append(line)
                continue
            if sign == " ":
                result.append(lines[done])  # the block's own line: it may end in spaces that the patch lost
            done += 1
    return "\n".join((*result, *lines[done:]))


def _place(text: _Text, hunk: Hunk, *, label: str) -> int:
    """Return the index of the line at which a hunk applies."""
    old = hunk.old
    if not old:  # only additions: where the patch says, else at the end
        return len(text.lines) if hunk.line is None else min(max(hunk.line - 1, 0), len(text.lines))
    found = text.places(old)
    if not found:
        text, old = text.stripped, tuple(line.rstrip() for line in old)
        found = text.places(old)
    if not found:
        raise MemoryEditError(
            f"the patch does not fit memory block `{label}`: the lines {quoted(chr(10).join(hunk.old))} are "
            "not there. Copy the lines that stay or go exactly from the block"
        )
    if len(found) == 1:
        return found[0]
    if hunk.line is not None and text.has_at(hunk.line - 1, old):
        return hunk.line - 1
    raise MemoryEditError(
        f"the patch fits memory block `{label}` in several places, at lines {[i + 1 for i in found]}: "
        "give more of the lines around the change"
    )
