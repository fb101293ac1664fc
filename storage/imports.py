"""What an agent that was brought along has beside its messages, before anybody knows its id."""

from storage.pool import Conn

_SUMMARISE = """
update conversations set summary_position = $2::bigint, from_position = $2::bigint + 1 where id = $1
"""


async def put_in_force(conn: Conn, conversation_id: str, position: int) -> None:
    """Show models the summary at `position` in place of what stands before it.

    Only for an agent that was created in the same transaction: no owner has its window in memory yet.
    """
    await conn.execute(_SUMMARISE, conversation_id, position)
