"""Stored messages: one by id, a stretch of a conversation, those of a run or step, and everybody's."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from storage import forks
from storage.errors import NotFoundError
from storage.forks import Stretch
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


_BY_IDS = _READ + " where id = any ($1::text[])"


async def by_ids(conn: Conn, message_ids: Sequence[str]) -> dict[str, Message]:
    """Return those of these messages that are stored, by their ids."""
    found = await conn.fetch(_BY_IDS, list(message_ids))
    return {row["id"]: _message(row) for row in found}


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


_EVERYWHERE = (-1, 2**62)

_STRETCH = _READ + " where conversation_id = $1 and position > $2 and position < $3 and (not excluded or $5)"
_OLDEST = _STRETCH + "\n order by position limit $4"
_NEWEST = _STRETCH + "\n order by position desc limit $4"

# Of a fork: each of its stretches is read along the positions until enough is found.
_SHARED = """
select found.*
  from unnest($1::text[], $2::bigint[], $3::bigint[]) s (id, low, high)
 cross join lateral (
   /*read*/
    where conversation_id = s.id and position > greatest(s.low, $4) and position < least(s.high + 1, $5)
      and (not excluded or $7)
    order by position/*direction*/
    limit $6) found
 order by found.position/*direction*/
 limit $6
"""
_OLDEST_SHARED = _SHARED.replace("/*read*/", _READ).replace("/*direction*/", "")
_NEWEST_SHARED = _SHARED.replace("/*read*/", _READ).replace("/*direction*/", " desc")

End = Literal["oldest", "newest"]


async def list_oldest(
    conn: Conn,
    conversation_id: str,
    *,
    limit: int,
    after: str | None = None,
    before: str | None = None,
    ancestors: Sequence[Stretch] = (),
    excluded: bool = True,
) -> list[Message]:
    """Return the first messages of a conversation later than `after` and earlier than `before`, oldest first.

    Those of its `ancestors` (`forks.ancestors`) are its own as well. Without `excluded` only messages come
    that models may be shown.

    Raises:
        NotFoundError: A cursor names no message of this conversation.
    """
    return await _stretch(
        conn, conversation_id, ancestors, limit, after, before, end="oldest", excluded=excluded
    )


async def list_newest(
    conn: Conn,
    conversation_id: str,
    *,
    limit: int,
    after: str | None = None,
    before: str | None = None,
    ancestors: Sequence[Stretch] = (),
    excluded: bool = True,
) -> list[Message]:
    """Return the last messages of a conversation later than `after` and earlier than `before`, newest first.

    Those of its `ancestors` (`forks.ancestors`) are its own as well. Without `excluded` only messages come
    that models may be shown.

    Raises:
        NotFoundError: A cursor names no message of this conversation.
    """
    return await _stretch(
        conn, conversation_id, ancestors, limit, after, before, end="newest", excluded=excluded
    )


async def _stretch(
    conn: Conn,
    conversation_id: str,
    ancestors: Sequence[Stretch],
    limit: int,
    after: str | None,
    before: str | None,
    *,
    end: End,
    excluded: bool,
) -> list[Message]:
    """Return the messages between two cursors, both exclusive, from one of their ends."""
    low, high = _EVERYWHERE
    if after is not None:
        low = await _position(conn, conversation_id, ancestors, after)
    if before is not None:
        high = await _position(conn, conversation_id, ancestors, before)
    if not ancestors:
        statement = _OLDEST if end == "oldest" else _NEWEST
        rows = await conn.fetch(statement, conversation_id, low, high, limit, excluded)
    else:
        own = Stretch(conversation_id, *_EVERYWHERE)
        statement = _OLDEST_SHARED if end == "oldest" else _NEWEST_SHARED
        rows = await conn.fetch(statement, *forks.columns((own, *ancestors)), low, high, limit, excluded)
    return [_message(row) for row in rows]


_POSITION = """
select m.position
  from messages m
 where m.id = $1
   and (m.conversation_id = $2
        or exists (select from unnest($3::text[], $4::bigint[], $5::bigint[]) s (id, low, high)
                    where s.id = m.conversation_id and m.position > s.low and m.position <= s.high))
"""


async def _position(conn: Conn, conversation_id: str, ancestors: Sequence[Stretch], message_id: str) -> int:
    """Return the position of a message that a cursor names, in a conversation or one that it is a fork of."""
    position = await conn.fetchval(_POSITION, message_id, conversation_id, *forks.columns(ancestors))
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


async def list_conversation(
    conn: Conn,
    page: Page,
    *,
    conversation_id: str,
    ancestors: Sequence[Stretch] = (),
    excluded: bool = True,
) -> list[Message]:
    """Return a page of the messages of a conversation, in the order of the page.

    Raises:
        NotFoundError: A cursor names no message of this conversation.
    """
    if ancestors:
        return await _page_of_fork(conn, page, conversation_id, ancestors, excluded=excluded)
    select = Select(_READ).where("conversation_id = {}", conversation_id)
    if not excluded:
        select.where("not excluded")
    rows = await select.page(conn, page, order=_IN_CONVERSATION, scope=conversation_id)
    return [_message(row) for row in rows]


async def _page_of_fork(
    conn: Conn, page: Page, conversation_id: str, ancestors: Sequence[Stretch], *, excluded: bool
) -> list[Message]:
    later, earlier = (page.before, page.after) if page.descending else (page.after, page.before)
    backwards = page.before is not None and page.after is None  # the rows nearest to it, as `Select.page`
    newest = page.descending != backwards
    read = list_newest if newest else list_oldest
    found = await read(
        conn,
        conversation_id,
        limit=page.limit,
        after=later,
        before=earlier,
        ancestors=ancestors,
        excluded=excluded,
    )
    return found[::-1] if backwards else found


async def list_run(conn: Conn, page: Page, *, run_id: str, step_id: str | None = None) -> list[Message]:
    """Return a page of the messages of a run, or of one of its steps, in the order of the page.

    Raises:
        NotFoundError: A cursor names no message of this run.
    """
    select = Select(_READ).where("run_id = {}", run_id)
    if step_id is not None:
        select.where("step_id = {}", step_id)
    return [_message(row) for row in await select.page(conn, page, order=_IN_RUN, scope=run_id)]


async def list_all(conn: Conn, page: Page, *, organization_id: str, excluded: bool = True) -> list[Message]:
    """Return a page of the messages of every agent of an organisation, in the order of the page.

    Raises:
        NotFoundError: A cursor names no message.
    """
    select = Select(_READ).where("organization_id = {}", organization_id)
    if not excluded:
        select.where("not excluded")
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
