"""What few steps change besides: written in the step's own transaction, by statements of their own."""

from collections.abc import Sequence

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none
from msgspec import Struct

from storage import blocks, edits, passages, pending
from storage.archive_records import Passage
from storage.errors import LabelTakenError
from storage.pending_records import PendingRequest
from storage.pool import Conn
from storage.records import Block


class BlockNaming(Struct, frozen=True, kw_only=True):
    """The label and description of a block from now on.

    The step writes the block's value as well, changed or not: that is what compares and raises its version.
    """

    id: str
    label: str
    description: str | None


class Extras(Struct, frozen=True, kw_only=True):
    """Rows that a step creates or takes away. Blocks that it creates are attached to its agent, and its
    passages go to the agent's archive, whatever archive they name.

    `answered` is a conversation that waits for nobody any more, `asked` what it waits for from now on.
    """

    created_blocks: tuple[Block, ...] = ()
    detached_blocks: tuple[str, ...] = ()
    renamed_blocks: tuple[BlockNaming, ...] = ()
    passages: tuple[Passage, ...] = ()
    answered: str | None = None
    asked: PendingRequest | None = None


async def write(conn: Conn, agent_id: str, extras: Extras) -> None:
    """Write them inside the open transaction of a step that may be written.

    Raises:
        LabelTakenError: A label is taken on this agent, or on another one that shares the block.
        ConflictError: The agent's archive came or went at this moment; write again.
    """
    for block_id in extras.detached_blocks:
        await edits.detach_block(conn, agent_id, block_id)
    await _rename(conn, extras.renamed_blocks)
    for block in extras.created_blocks:
        await blocks.create(conn, block)
        try:
            await edits.attach_block(conn, agent_id, block.id)
        except asyncpg.UniqueViolationError as error:
            raise LabelTakenError(block.label) from error
    if extras.passages:
        await passages.insert_for_agent(conn, agent_id, extras.passages)
    if extras.answered is not None:
        await pending.clear(conn, extras.answered)
    if extras.asked is not None:
        await pending.put(conn, extras.asked)


# The step has locked these rows and compared their versions: nobody is between its write and this one.
_NAME = "update blocks set label = $2, description = $3 where id = $1"

# Of several blocks one may take the label that another gives up: none has one for a moment.
_UNLABEL = "update agents_blocks set label = block_id where block_id = any ($1::text[])"

_LABEL = "update agents_blocks set label = $2 where block_id = $1 and label <> $2"


async def _rename(conn: Conn, renamed: Sequence[BlockNaming]) -> None:
    if len(renamed) > 1:
        await conn.execute(_UNLABEL, [naming.id for naming in renamed])
    for naming in renamed:
        await conn.execute(_NAME, naming.id, naming.label, naming.description)
        try:
            await conn.execute(_LABEL, naming.id, naming.label)
        except asyncpg.UniqueViolationError as error:
            raise LabelTakenError(naming.label) from error
