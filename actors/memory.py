"""Edits of one memory block, decided purely: a block and what is asked give the block with a new value."""

import re

import msgspec

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
MAX_VALUE_CHARS = 1_000_000  # of one block; far above any window, and what one edit can multiply a value to


class MemoryEditError(ActorError):
    """The edit cannot be applied to the block as it is; the text tells the model what to do."""


def insert(block: Block, new_string: str, *, insert_line: int = -1) -> Block:
    """Return `block` with `new_string` as new lines after line `insert_line` (0 = top, -1 = end).

    Raises:
        MemoryEditError: The block is read-only, the text carries line numbers of the display, or the
            line does not exist.
    """
    guard(block, new_string=new_string)
    new_string = storable(new_string)
    lines = block.value.split("\n")
    if insert_line < -1 or insert_line > len(lines):
        raise MemoryEditError(
            f"insert_line {insert_line} is out of range: memory block `{block.label}` has "
            f"{len(lines)} lines, so give 0 to {len(lines)}, or -1 for the end"
        )
    if not block.value:  # an empty block has no line to keep above or below the new ones
        return with_value(block, new_string)
    at = len(lines) if insert_line == -1 else insert_line
    return with_value(block, "\n".join([*lines[:at], new_string, *lines[at:]]))


def replace(block: Block, old_string: str, *, new_string: str) -> Block:
    """Return `block` with the one occurrence of `old_string` replaced by `new_string`.

    An empty `old_string` fills an empty block and is refused otherwise.

    Raises:
        MemoryEditError: The block is read-only, an argument carries line numbers of the display, or
            `old_string` occurs never or more than once.
    """
    guard(block, old_string=old_string, new_string=new_string)
    old_string, new_string = storable(old_string), storable(new_string)
    if not old_string and block.value:
        raise MemoryEditError(
            "old_string is empty; quote the text to replace, or add text with memory_insert"
        )
    found = _occurrences(block.value, old_string)
    if not found:
        raise MemoryEditError(
            f"No replacement was performed: old_string {quoted(old_string)} did not appear verbatim in "
            f"memory block `{block.label}`. Copy it from the block exactly, or use memory_insert."
        )
    if len(found) > 1:
        lines = sorted({block.value.count("\n", 0, start) + 1 for start in found})
        raise MemoryEditError(
            f"No replacement was performed: multiple occurrences of old_string {quoted(old_string)} in "
            f"lines {lines} of memory block `{block.label}`. Quote more of the text so that it is unique."
        )
    before, after = block.value[: found[0]], block.value[found[0] + len(old_string) :]
    return with_value(block, before + new_string + after)


def append(block: Block, content: str) -> Block:
    """Return `block` with `content` as new lines at its end.

    Raises:
        MemoryEditError: The block is read-only.
    """
    _writable(block)
    content = storable(content)
    return with_value(block, f"{block.value}\n{content}" if block.value else content)


def replace_all(block: Block, old_content: str, *, new_content: str) -> Block:
    """Return `block` with every occurrence of `old_content` replaced by `new_content`.

    Raises:
        MemoryEditError: The block is read-only, or `old_content` is empty or not there.
    """
    _writable(block)
    old_content, new_content = storable(old_content), storable(new_content)
    if not old_content:
        raise MemoryEditError("old_content is empty; quote the text to replace")
    count = block.value.count(old_content)
    if not count:
        raise MemoryEditError(
            f"Old content '{_cut(old_content)}' not found in memory block '{block.label}'. "
            "Copy it from the block exactly."
        )
    _bounded(block, len(block.value) + count * (len(new_content) - len(old_content)))
    return with_value(block, block.value.replace(old_content, new_content))


def rethink(block: Block, new_memory: str) -> Block:
    """Return `block` with `new_memory` as its whole value.

    Raises:
        MemoryEditError: The block is read-only, or the text carries line numbers of the display.
    """
    guard(block, new_memory=new_memory)
    return with_value(block, storable(new_memory))


def with_value(block: Block, value: str) -> Block:
    """Return `block` with another value.

    Raises:
        MemoryEditError: The value is too long.
    """
    _bounded(block, len(value))
    return msgspec.structs.replace(block, value=value)


def storable(text: str) -> str:
    """Return `text` with U+FFFD for what Postgres and UTF-8 cannot hold: NUL and lone surrogates."""
    return _UNSTORABLE.sub("\ufffd", text)


def guard(block: Block, **arguments: str) -> None:
    """Refuse what must not be written: to a read-only block, or the line numbers of the display.

    Raises:
        MemoryEditError: Names the argument and the remedy.
    """
    _writable(block)
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


def quoted(text: str) -> str:
    """Return `text` as an error repeats it to the model, cut where it is long."""
    return f"`{_cut(text)}`"


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}…"


def _writable(block: Block) -> None:
    if block.read_only:
        raise MemoryEditError(READ_ONLY)


def _bounded(block: Block, chars: int) -> None:
    if chars > MAX_VALUE_CHARS:
        raise MemoryEditError(
            f"memory block `{block.label}` would have {chars} characters; "
            f"at most {MAX_VALUE_CHARS} are possible"
        )
