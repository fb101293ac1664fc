"""The blocks that an actor holds, by label: what they are after a commit, wherever it came from. Pure."""

from collections.abc import Iterable, Mapping

from storage.records import Block

Blocks = Mapping[str, Block]


def after_step(
    blocks: Blocks, *, written: Iterable[Block], created: Iterable[Block], detached: Iterable[Block]
) -> dict[str, Block]:
    """Return the blocks after a committed step. A newer version heard of meanwhile stays."""
    held = {b.id: b for b in blocks.values()}
    for block in written:
        if block.id in held and held[block.id].version < block.version:
            held[block.id] = block
    for block in detached:
        held.pop(block.id, None)
    held |= {b.id: b for b in created}
    return {b.label: b for b in held.values()}


def after_write(blocks: Blocks, block: Block) -> dict[str, Block] | None:
    """Return the blocks with the committed `block`, in its place; None where it is not held, or not newer."""
    before = next((b for b in blocks.values() if b.id == block.id), None)
    if before is None or before.version >= block.version:
        return None
    after: dict[str, Block] = {}
    for label, held in blocks.items():
        if held.id == block.id:
            after[block.label] = block
        else:
            # Who has that label still is about to be relabelled as well; until then its id keys it.
            after[held.id if label == block.label else label] = held
    return after


def after_read(blocks: Blocks, rows: Iterable[Block]) -> dict[str, Block]:
    """Return the blocks as they were read; a newer version heard of meanwhile stays."""
    held = {b.id: b for b in blocks.values()}
    newest = (max(row, held.get(row.id, row), key=lambda b: b.version) for row in rows)
    return {b.label: b for b in newest}
