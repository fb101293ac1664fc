"""The blocks that an actor holds, by label: what they are after a commit, wherever it came from. Pure."""

from collections.abc import Iterable, Mapping

from actors.events import BlockChanged, BlockCreated, BlockDetached, Event
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


def changes(before: Blocks, after: Blocks) -> list[Event]:
    """Return what somebody outside of any run changed, as events: what left, what changed, what came."""
    had, has = ({b.id: b for b in blocks.values()} for blocks in (before, after))
    events: list[Event] = [
        BlockDetached(None, b.id, b.label, b.limit_chars) for b in had.values() if b.id not in has
    ]
    for block in has.values():
        old = had.get(block.id)
        if old is None:
            events.append(created(None, block))
        elif old.version < block.version:
            events.append(changed(None, old, block))
    return events


def created(run_id: str | None, block: Block) -> BlockCreated:
    """Return the event that the agent holds one more block."""
    return BlockCreated(
        run_id,
        block.id,
        block.label,
        block.value,
        block.description,
        block.version,
        block.limit_chars,
    )


def changed(run_id: str | None, before: Block, block: Block) -> BlockChanged:
    """Return the event that a block has a new committed value, or another name."""
    return BlockChanged(
        run_id, block.id, block.label, block.value, block.version, block.limit_chars, before.value
    )
