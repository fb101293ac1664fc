"""What an agent may do to its memory, as data: applied purely to its blocks, and again to reloaded ones."""

from collections.abc import Callable, Mapping
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from actors import memory, memory_patch, memory_paths
from actors.memory import MemoryEditError, quoted
from actors.memory_patch import Add, Delete, Hunk, Operation, Update
from storage.records import Block

MAX_BLOCKS = 100  # that one agent holds
MAX_DESCRIPTION_CHARS = 10_000

_SHOWN_FROM = "The system prompt has been recompiled: it shows this from your next turn on."


class InsertEdit(Struct, frozen=True, tag_field="type", tag="insert", gc=False):
    """Insert whole lines: after line `insert_line`, 0 for the top, -1 for the end."""

    label: str
    new_string: str
    insert_line: int = -1


class ReplaceEdit(Struct, frozen=True, tag_field="type", tag="replace", gc=False):
    """Replace the one occurrence of `old_string`."""

    label: str
    old_string: str
    new_string: str


class AppendEdit(Struct, frozen=True, tag_field="type", tag="append", gc=False):
    """Add lines at the end."""

    label: str
    content: str


class ReplaceAllEdit(Struct, frozen=True, tag_field="type", tag="replace_all", gc=False):
    """Replace every occurrence of `old_content`."""

    label: str
    old_content: str
    new_content: str


class RethinkEdit(Struct, frozen=True, tag_field="type", tag="rethink", gc=False):
    """Give a block a whole new value; one that does not exist is created."""

    label: str
    new_memory: str


class PatchEdit(Struct, frozen=True, tag_field="type", tag="patch", gc=False):
    """Apply a unified diff to one block, or the operations of a patch to several, all or none."""

    label: str
    patch: str


class CreateEdit(Struct, frozen=True, tag_field="type", tag="create", gc=False):
    """Create a block and attach it."""

    label: str
    value: str
    description: str


class DeleteEdit(Struct, frozen=True, tag_field="type", tag="delete", gc=False):
    """Detach a block; it survives in the database."""

    label: str


class RenameEdit(Struct, frozen=True, tag_field="type", tag="rename", gc=False):
    """Give a block another label, another description, or both."""

    label: str
    new_label: str | None = None
    description: str | None = None


MemoryEdit = (
    InsertEdit
    | ReplaceEdit
    | AppendEdit
    | ReplaceAllEdit
    | RethinkEdit
    | PatchEdit
    | CreateEdit
    | DeleteEdit
    | RenameEdit
)


class Birth(Struct, frozen=True):
    """How blocks come to be: `make` returns an empty block with a label, stored nowhere yet.

    `refused` are labels that another agent which shares the block has taken.
    """

    make: Callable[[str], Block]
    refused: frozenset[str] = frozenset()


class Applied(Struct, frozen=True):
    """Memory after an edit: its blocks by label in the order of the prompt, and what the model is told.

    What was created, detached, relabelled or changed follows from the ids; `detached` holds blocks as
    they were when they left, because they may have been changed before.
    """

    blocks: dict[str, Block]
    text: str
    detached: tuple[Block, ...] = ()


def apply(blocks: Mapping[str, Block], edit: MemoryEdit, birth: Birth) -> Applied:
    """Return memory after `edit`. `blocks` is keyed by label and left as it is.

    The same edit may be applied again to reloaded blocks after a lost compare-and-set.

    Raises:
        MemoryEditError: A block does not exist, or a guard of the edit refused it. Nothing is changed.
    """
    match edit:
        case InsertEdit():
            block = memory.insert(held(blocks, edit.label), edit.new_string, insert_line=edit.insert_line)
        case ReplaceEdit():
            block = memory.replace(held(blocks, edit.label), edit.old_string, new_string=edit.new_string)
        case AppendEdit():
            block = memory.append(held(blocks, edit.label), edit.content)
        case ReplaceAllEdit():
            block = memory.replace_all(
                held(blocks, edit.label), edit.old_content, new_content=edit.new_content
            )
        case RethinkEdit():
            block = memory.rethink(_held_or_born(blocks, edit.label, birth), edit.new_memory)
        case PatchEdit():
            return _patch(blocks, edit, birth)
        case CreateEdit():
            return _create(blocks, edit, birth)
        case DeleteEdit():
            return _delete(blocks, edit.label)
        case RenameEdit():
            return _rename(blocks, edit, birth)
        case _:
            assert_never(edit)
    return Applied({**blocks, block.label: block}, block.value)


def held(blocks: Mapping[str, Block], label: str) -> Block:
    """Return the block with this label.

    Raises:
        MemoryEditError: There is none; names those that there are.
    """
    block = blocks.get(label)
    if block is None:
        labels = ", ".join(blocks) or "none"
        raise MemoryEditError(f"memory block {quoted(label)} does not exist; existing blocks: {labels}")
    return block


# --- blocks that come and go -------------------------------------------------------------------


def _held_or_born(blocks: Mapping[str, Block], label: str, birth: Birth) -> Block:
    return blocks[label] if label in blocks else _born(blocks, label, birth)


def _born(blocks: Mapping[str, Block], label: str, birth: Birth) -> Block:
    _free(blocks, memory_paths.checked(label), birth)
    if len(blocks) >= MAX_BLOCKS:
        raise MemoryEditError(f"you hold {len(blocks)} memory blocks, which is the most; delete one first")
    return birth.make(label)


def _free(blocks: Mapping[str, Block], label: str, birth: Birth) -> None:
    if label in blocks:
        raise MemoryEditError(
            f"memory block `{label}` exists already; edit it, or choose another name for the new one"
        )
    if label in birth.refused:
        raise MemoryEditError(
            f"the label `{label}` is taken: an agent that shares this block has another one of that name. "
            "Choose another name"
        )


def _create(blocks: Mapping[str, Block], edit: CreateEdit, birth: Birth) -> Applied:
    block = memory.rethink(_born(blocks, edit.label, birth), edit.value)
    block = replace(block, description=_description(edit.description))
    return Applied(
        {**blocks, edit.label: block}, f"Successfully created memory block `{edit.label}`. {_SHOWN_FROM}"
    )


def _delete(blocks: Mapping[str, Block], label: str) -> Applied:
    block = held(blocks, label)
    memory.guard(block)
    left = {at: b for at, b in blocks.items() if at != label}
    return Applied(left, f"Successfully deleted memory block `{label}`. {_SHOWN_FROM}", (block,))


def _rename(blocks: Mapping[str, Block], edit: RenameEdit, birth: Birth) -> Applied:
    block = held(blocks, edit.label)
    memory.guard(block)
    said = f"Successfully updated the description of memory block `{edit.label}`. {_SHOWN_FROM}"
    if edit.description is not None:
        block = replace(block, description=_description(edit.description))
    if edit.new_label is not None and edit.new_label != edit.label:
        _free(blocks, memory_paths.checked(edit.new_label), birth)
        block = replace(block, label=edit.new_label)
        said = f"Successfully renamed memory block `{edit.label}` to `{edit.new_label}`. {_SHOWN_FROM}"
    # In its old place: the order of the prompt does not follow from labels.
    return Applied({b.label: b for b in (block if x.id == block.id else x for x in blocks.values())}, said)


def _description(text: str) -> str:
    if len(text) > MAX_DESCRIPTION_CHARS:
        raise MemoryEditError(
            f"the description has {len(text)} characters; at most {MAX_DESCRIPTION_CHARS} are possible"
        )
    return memory.storable(text)


# --- patches -----------------------------------------------------------------------------------


def _patch(blocks: Mapping[str, Block], edit: PatchEdit, birth: Birth) -> Applied:
    patch = memory_patch.parse(memory.storable(edit.patch))
    if patch.operations:
        return _operate(blocks, patch.operations, birth)
    block = _patched(held(blocks, edit.label), patch.hunks)
    return Applied({**blocks, block.label: block}, block.value)


def _operate(blocks: Mapping[str, Block], operations: tuple[Operation, ...], birth: Birth) -> Applied:
    """Apply operations one after the other; the first that is refused refuses them all."""
    done = Applied(dict(blocks), "")
    said: list[str] = []
    for operation in operations:
        try:
            after = _step(done.blocks, operation, birth)
        except MemoryEditError as error:
            raise MemoryEditError(f"Nothing was changed, because of `{operation.header}`: {error}") from error
        said.append(f"- {after.text}")
        done = Applied(after.blocks, "", (*done.detached, *after.detached))
    summary = f"Applied {len(said)} operation{'s' if len(said) > 1 else ''}:"
    return Applied(done.blocks, "\n".join((summary, *said, _SHOWN_FROM)), done.detached)


def _step(blocks: Mapping[str, Block], operation: Operation, birth: Birth) -> Applied:
    match operation:
        case Add(label, value):
            block = memory.rethink(_born(blocks, label, birth), value)
            return Applied({**blocks, label: block}, f"added `{label}`")
        case Delete(label):
            return replace(_delete(blocks, label), text=f"deleted `{label}`")
        case Update(label, hunks, move_to):
            after = Applied({**blocks, label: _patched(held(blocks, label), hunks)}, f"updated `{label}`")
            if move_to is None:
                return after
            moved = _rename(after.blocks, RenameEdit(label, move_to), birth)
            changed = "updated and moved" if hunks else "moved"
            return replace(moved, text=f"{changed} `{label}` to `{move_to}`")
        case _:
            assert_never(operation)


def _patched(block: Block, hunks: tuple[Hunk, ...]) -> Block:
    if not hunks:
        memory.guard(block)
        return block
    old = "\n".join(line for hunk in hunks for line in hunk.old)
    new = "\n".join(line for hunk in hunks for line in hunk.new)
    memory.guard(block, patch=f"{old}\n{new}")
    return memory.with_value(block, memory_patch.patched(block.value, hunks, label=block.label))
