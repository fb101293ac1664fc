"""Stored messages: one by id, a stretch of a conversation, those of a run or step, and everybody's."""

import msgspec

from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import Message, Part

_READ = """
select id, organization_id, agent_id, conversation_id, position, role, content, created_at, name, otid,
       sender_id, run_id, step_id, tokens, excluded, interrupted
  from messages
"""

_content = msgspec.json.Decoder(tuple[Part, ...])

_GET = _READ + " where id = $1 and organization_id = $2"


async def get(conn: Conn, message_id: str, *, organization_id: str) -> Message:
    """Return one message.

    Raises:
        NotFoundError: There is none.
    """
    row = await conn.fetchrow(_GET, message_id, organization_id)
    if row is None:
        raise NotFoundError("message", message_id)
    return _message(row)


_SYSTEM = _READ + " where conversation_id = $1 and position = 0"


async def system_of(conn: Conn, conversation_id: str) -> Message:
    """Return the system message of a conversation.

    Raises:
        NotFoundError: There is no such conversation.
    """
    row = await conn.fetchrow(_SYSTEM, conversation_id)
    if row is None:
        raise NotFoundError("conversation", conversation_id)
    return _message(row)


_POSITION = "select position from messages where id = $1 and conversation_id = $2"
_EVERYWHERE = (-1, 2**62)

_STRETCH = _READ + " where conversation_id = $1 and position > $2 and position < $3"
_OLDEST = _STRETCH + "\n order by position limit $4"
_NEWEST = _STRETCH + "\n order by position desc limit $4"


async def list_oldest(
    conn: Conn, conversation_id: str, *, limit: int, after: str | None = None, before: str | None = None
) -> list[Message]:
    """Return the first messages of a conversation later than `after` and earlier than `before`, oldest first.

    Raises:
        NotFoundError: A cursor names no message of this conversation.
    """
    bounds = await _bounds(conn, conversation_id, after, before)
    return [_message(row) for row in await conn.fetch(_OLDEST, conversation_id, *bounds, limit)]


async def list_newest(
    conn: Conn, conversation_id: str, *, limit: int, after: str | None = None, before: str | None = None
) -> list[Message]:
    """Return the last messages of a conversation later than `after` and earlier than `before`, newest first.

    Raises:
        NotFoundError: A cursor names no message of this conversation.
    """
    bounds = await _bounds(conn, conversation_id, after, before)
    return [_message(row) for row in await conn.fetch(_NEWEST, conversation_id, *bounds, limit)]


async def _bounds(conn: Conn, conversation_id: str, after: str | None, before: str | None) -> tuple[int, int]:
    """Return the positions that the messages named by the cursors have; both ends are exclusive."""
    low, high = _EVERYWHERE
    if after is not None:
        low = await _position(conn, conversation_id, after)
    if before is not None:
        high = await _position(conn, conversation_id, before)
    return low, high


async def _position(conn: Conn, conversation_id: str, message_id: str) -> int:
    position = await conn.fetchval(_POSITION, message_id, conversation_id)
    if position is None:
        raise NotFoundError("message", message_id)
    return position


_IN_CONVERSATION = Order(
    columns=("position",),
    cursor="select position from messages where id = $1 and conversation_id = $2",
    noun="message",
)
_IN_RUN = Order(
    columns=("position",),
    cursor="select position from messages where id = $1 and run_id = $2",
    noun="message",
)
# Messages of one step share their time up to the microsecond; their position keeps them in order.
_BY_AGE = Order(
    columns=("created_at", "position", "id"),
    cursor="select created_at, position, id from messages where id = $1 and organization_id = $2",
    noun="message",
)


async def list_conversation(conn: Conn, page: Page, *, conversation_id: str) -> list[Message]:
    """Return a page of the messages of a conversation, in the order of the page.

    Raises:
        NotFoundError: A cursor names no message of this conversation.
    """
    select = Select(_READ).where("conversation_id = {}", conversation_id)
    rows = await select.page(conn, page, order=_IN_CONVERSATION, scope=conversation_id)
    return [_message(row) for row in rows]


async def list_run(conn: Conn, page: Page, *, run_id: str, step_id: str | None = None) -> list[Message]:
    """Return a page of the messages of a run, or of one of its steps, in the order of the page.

    Raises:
        NotFoundError: A cursor names no message of this run.
    """
    select = Select(_READ).where("run_id = {}", run_id)
    if step_id is not None:
        select.where("step_id = {}", step_id)
    return [_message(row) for row in await select.page(conn, page, order=_IN_RUN, scope=run_id)]


async def list_all(conn: Conn, page: Page, *, organization_id: str) -> list[Message]:
    """Return a page of the messages of every agent of an organisation, in the order of the page.

    Raises:
        NotFoundError: A cursor names no message.
    """
    select = Select(_READ).where("organization_id = {}", organization_id)
    rows = await select.page(conn, page, order=_BY_AGE, scope=organization_id)
    return [_message(row) for row in rows]


_WHOLE_RUN = _READ + " where run_id = $1 order by position"


async def whole_run(conn: Conn, run_id: str) -> list[Message]:
    """Return every message of a run, oldest first: what is left of its stream when the log is gone."""
    return [_message(row) for row in await conn.fetch(_WHOLE_RUN, run_id)]


def _message(row: Row) -> Message:
    return Message(
        id=row["id"],
        organization_id=row["organization_id"],
        agent_id=row["agent_id"],
        conversation_id=row["conversation_id"],
        position=row["position"],
        role=row["role"],
        content=_content.decode(row["content"]),
        created_at=row["created_at"],
        name=row["name"],
        otid=row["otid"],
        sender_id=row["sender_id"],
        run_id=row["run_id"],
        step_id=row["step_id"],
        tokens=row["tokens"],
        excluded=row["excluded"],
        interrupted=row["interrupted"],
    )
