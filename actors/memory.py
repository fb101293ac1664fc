"""Edits of memory blocks, decided purely: a block value and an edit give a new block value."""

import re
from collections.abc import Mapping
from typing import assert_never

import msgspec
from msgspec import Struct

from actors.errors import ActorError
from storage.records import Block

READ_ONLY = "Error This block is read-only and cannot be edited."
LINE_NUMBER_WARNING = (
    "NOTE: the numbers and arrows before each line (such as 1→) only show where a line is; they are not "
    "part of the memory. Never repeat them in the arguments of a memory tool."
)

_LINE_NUMBER = re.compile(r"^[^\S\n]*\d+→", re.MULTILINE)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_QUOTED_CHARS = 200  # how much of an argument an error repeats to the model
# At most this many places of a repeated text are looked for and named: an error needs no more, and a
# one-letter old_string in a long block must not cost a list of every letter.
_NAMED_PLACES = 20


class MemoryEditError(ActorError):
    """The edit cannot be applied to the block as it is; the text tells the model what to do."""


class InsertEdit(Struct, frozen=True, tag_field="type", tag="memory_insert", gc=False):
    """Insert whole lines: after line `insert_line`, 0 for the top, -1 for the end."""

    label: str
    new_string: str
    insert_line: int = -1


class ReplaceEdit(Struct, frozen=True, tag_field="type", tag="memory_replace", gc=False):
    """Replace the one occurrence of `old_string`."""

    label: str
    old_string: str
    new_string: str


MemoryEdit = InsertEdit | ReplaceEdit


def apply(blocks: Mapping[str, Block], edit: MemoryEdit) -> Block:
    """Return the block that `edit` names, edited. `blocks` is keyed by label and left as it is.

    The same edit may be applied again to reloaded blocks after a lost compare-and-set.

    Raises:
        MemoryEditError: No such label, or a guard of the edit refused it.
    """
    block = blocks.get(edit.label)
    if block is None:
        labels = ", ".join(blocks) or "none"
        raise MemoryEditError(f"memory block {_quoted(edit.label)} does not exist; existing blocks: {labels}")
    match edit:
        case InsertEdit():
            return insert(block, edit.new_string, insert_line=edit.insert_line)
        case ReplaceEdit():
            return replace(block, edit.old_string, new_string=edit.new_string)
        case _:
            assert_never(edit)


def insert(block: Block, new_string: str, *, insert_line: int = -1) -> Block:
    """Return `block` with `new_string` as new lines after line `insert_line` (0 = top, -1 = end).

    Raises:
        MemoryEditError: The block is read-only, the text carries line numbers of the display, or the
            line does not exist.
    """
    _guard(block, new_string=new_string)
    new_string = storable(new_string)
    lines = block.value.split("\n")
    if insert_line < -1 or insert_line > len(lines):
        raise MemoryEditError(
            f"insert_line {insert_line} is out of range: memory block `{block.label}` has "
            f"{len(lines)} lines, so give 0 to {len(lines)}, or -1 for the end"
        )
    if not block.value:  # an empty block has no line to keep above or below the new ones
        return _with_value(block, new_string)
    at = len(lines) if insert_line == -1 else insert_line
    return _with_value(block, "\n".join([*lines[:at], new_string, *lines[at:]]))


def replace(block: Block, old_string: str, *, new_string: str) -> Block:
    """Return `block` with the one occurrence of `old_string` replaced by `new_string`.

    An empty `old_string` fills an empty block and is refused otherwise.

    Raises:
        MemoryEditError: The block is read-only, an argument carries line numbers of the display, or
            `old_string` occurs never or more than once.
    """
    _guard(block, old_string=old_string, new_string=new_string)
    old_string, new_string = storable(old_string), storable(new_string)
    if not old_string and block.value:
        raise MemoryEditError(
            "old_string is empty; quote the text to replace, or add text with memory_insert"
        )
    found = _occurrences(block.value, old_string)
    if not found:
        raise MemoryEditError(
            f"No replacement was performed: old_string {_quoted(old_string)} did not appear verbatim in "
            f"memory block `{block.label}`. Copy it from the block exactly, or use memory_insert."
        )
    if len(found) > 1:
        lines = sorted({block.value.count("\n", 0, start) + 1 for start in found})
        raise MemoryEditError(
            f"No replacement was performed: multiple occurrences of old_string {_quoted(old_string)} in "
            f"lines {lines} of memory block `{block.label}`. Quote more of the text so that it is unique."
        )
    before, after = block.value[: found[0]], block.value[found[0] + len(old_string) :]
    return _with_value(block, before + new_string + after)


def storable(text: str) -> str:
    """Return `text` with U+FFFD for what Postgres and UTF-8 cannot hold: NUL and lone surrogates."""
    return _UNSTORABLE.sub("\ufffd", text)


def _guard(block: Block, **arguments: str) -> None:
    if block.read_only:
        raise MemoryEditError(READ_ONLY)
    for name, text in arguments.items():
        if _LINE_NUMBER.search(text):
            raise MemoryEditError(
                f"{name} contains a line number prefix (such as 1→). Line numbers are for display only: "
                "send the text without them."
            )
        if LINE_NUMBER_WARNING in text:
            raise MemoryEditError(
                f"{name} contains the line number warning. It is for display only and not part of the "
                "memory: send the text without it."
            )


def _occurrences(value: str, wanted: str) -> list[int]:
    """Return where `wanted` starts in `value`, overlapping ones too: they are just as ambiguous."""
    found: list[int] = []
    start = value.find(wanted)
    while start != -1 and len(found) < _NAMED_PLACES:
        found.append(start)
        start = value.find(wanted, start + 1)
    return found


def _quoted(text: str) -> str:
    return f"`{text}`" if len(text) <= _QUOTED_CHARS else f"`{text[:_QUOTED_CHARS]}…`"


def _with_value(block: Block, value: str) -> Block:
    return msgspec.structs.replace(block, value=value)
