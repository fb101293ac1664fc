"""What an agent that was brought along has beside its messages, before anybody knows its id."""

from storage.pool import Conn

_SUMMARISE = """
update conversations set summary_position = $2::bigint, from_position = $2::bigint + 1 where id = $1
"""


_BEGIN = "update conversations set from_position = $2::bigint where id = $1"


async def begin_window(conn: Conn, conversation_id: str, position: int) -> None:
    """Show models only what stands from `position` on; what is before stays history.

    Only for an agent that was created in the same transaction, as below.
    """
    await conn.execute(_BEGIN, conversation_id, position)


async def put_in_force(conn: Conn, conversation_id: str, position: int) -> None:
    """Show models the summary at `position` in place of what stands before it.

    Only for an agent that was created in the same transaction: no owner has its window in memory yet.
    """
    await conn.execute(_SUMMARISE, conversation_id, position)
