"""What few steps change besides: written in the step's own transaction, by statements of their own."""

from msgspec import Struct

from storage import blocks, edits
from storage.pool import Conn
from storage.records import Block


class Extras(Struct, frozen=True, kw_only=True):
    """Rows that a step creates or takes away. Blocks that it creates are attached to its agent."""

    created_blocks: tuple[Block, ...] = ()
    detached_blocks: tuple[str, ...] = ()


async def write(conn: Conn, agent_id: str, extras: Extras) -> None:
    """Write them inside the open transaction of a step that may be written.

    Raises:
        ConflictError: A label is taken on this agent (`block_label_is_unique_per_agent`).
    """
    for block_id in extras.detached_blocks:
        await edits.detach_block(conn, agent_id, block_id)
    for block in extras.created_blocks:
        await blocks.create(conn, block)
        await edits.attach_block(conn, agent_id, block.id)
