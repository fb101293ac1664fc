"""Conversations as they are stored: one by id, an agent's list, and the messages in a window."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from storage import forks
from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import Conversation

SELECT = """
select id, organization_id, agent_id, created_at, updated_at, parent_id, parent_position,
       from_position, end_position, summary_position, summary, description, model, model_settings,
       last_message_at,
       archived_at"""  # from conversations_now: the columns that `of_row` wants

_READ = f"{SELECT} from conversations_now "

_GET = _READ + " where id = $1 and organization_id = $2 and deleted_at is null"


async def get(conn: Conn, conversation_id: str, *, organization_id: str) -> Conversation:
    """Return an open conversation; the default one has its agent's id.

    Raises:
        NotFoundError: There is none; the noun is `agent` where the id is an agent's.
    """
    row = await conn.fetchrow(_GET, conversation_id, organization_id)
    if row is None:
        noun = "agent" if conversation_id.startswith("agent-") else "conversation"
        raise NotFoundError(noun, conversation_id)
    return of_row(row)


_GET_DELETED = _READ + " where id = $1 and agent_id = $2"


async def get_deleted(conn: Conn, conversation_id: str, *, agent_id: str) -> Conversation:
    """Return a conversation of an agent although it was deleted: what was said there stays stored.

    Raises:
        NotFoundError: There was never one.
    """
    row = await conn.fetchrow(_GET_DELETED, conversation_id, agent_id)
    if row is None:
        raise NotFoundError("conversation", conversation_id)
    return of_row(row)


_BY_AGE = Order(
    columns=("created_at", "id"),
    cursor="""
select created_at, id from conversations
 where id = $1 and organization_id = $2 and id <> agent_id and deleted_at is null
""",
    noun="conversation",
)
_BY_ACTIVITY = Order(
    columns=("coalesce(last_message_at, created_at)", "id"),
    cursor="""
select coalesce(last_message_at, created_at), id from conversations_now
 where id = $1 and organization_id = $2 and id <> agent_id and deleted_at is null
""",
    noun="conversation",
)


async def list_page(
    conn: Conn,
    page: Page,
    *,
    organization_id: str,
    agent_id: str | None = None,
    summary_search: str | None = None,
    archived: bool | None = None,
    order_by: Literal["created_at", "last_message_at"] = "created_at",
) -> list[Conversation]:
    """Return a page of open conversations, without the default ones. `archived` None means both kinds.

    Raises:
        NotFoundError: The cursor names no such conversation.
    """
    select = Select(_READ).where("organization_id = {}", organization_id)
    select.where("id <> agent_id").where("deleted_at is null")
    if agent_id is not None:
        select.where("agent_id = {}", agent_id)
    if summary_search:
        select.where("summary ilike {}", f"%{_literal(summary_search)}%")
    if archived is not None:
        select.where(f"archived_at is {'not ' if archived else ''}null")
    order = _BY_AGE if order_by == "created_at" else _BY_ACTIVITY
    return [of_row(row) for row in await select.page(conn, page, order=order, scope=organization_id)]


_WINDOW = """
select id
  from messages
 where conversation_id = $1 and not excluded
   and (position in (0, $4) or position >= $2 and position < $3 and role <> 'summary')
 order by position > 0, role <> 'summary', position
"""

_SHARED_WINDOW = """
select m.id
  from (select $1::text as id, -1::bigint as low, $3::bigint as high
        union all
        select id, low, high from unnest($5::text[], $6::bigint[], $7::bigint[]) s (id, low, high)) s
  join messages m on m.conversation_id = s.id and m.position > s.low and m.position <= s.high
 where not m.excluded
   and (m.position in (0, $4) or m.position >= $2 and m.position < $3 and m.role <> 'summary')
 order by m.position > 0, m.role <> 'summary', m.position
"""


async def window_ids(conn: Conn, conversation: Conversation) -> list[str]:
    """Return the ids of the messages that models see: the system prompt, the summary, then the window."""
    bounds = (conversation.from_position, conversation.end_position, conversation.summary_position)
    shared = await forks.ancestors(conn, conversation)
    if shared:
        rows = await conn.fetch(_SHARED_WINDOW, conversation.id, *bounds, *forks.columns(shared))
    else:
        rows = await conn.fetch(_WINDOW, conversation.id, *bounds)
    return [row["id"] for row in rows]


_WINDOWS = """
select w.id,
       array(select m.id
               from messages m
              where m.conversation_id = w.id and not m.excluded
                and (m.position in (0, w.summary)
                     or m.position >= w.low and m.position < w.high and m.role <> 'summary')
              order by m.position > 0, m.role <> 'summary', m.position) as ids
  from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) w (id, low, high, summary)
"""


async def windows_ids(conn: Conn, found: Sequence[Conversation]) -> dict[str, list[str]]:
    """Return what `window_ids` does of several conversations, by their ids. Each fork costs a read."""
    own = [c for c in found if c.parent_id is None]
    rows = await conn.fetch(
        _WINDOWS,
        [c.id for c in own],
        [c.from_position for c in own],
        [c.end_position for c in own],
        [c.summary_position for c in own],
    )
    shared = {c.id: await window_ids(conn, c) for c in found if c.parent_id is not None}
    return {row["id"]: list(row["ids"]) for row in rows} | shared


def _literal(text: str) -> str:
    r"""Return `text` for LIKE with nothing in it special; `\` is the default escape."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def of_row(row: Row) -> Conversation:
    """Return the conversation that a row with the columns of `SELECT` holds."""
    settings = row["model_settings"]
    return Conversation(
        id=row["id"],
        organization_id=row["organization_id"],
        agent_id=row["agent_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        parent_id=row["parent_id"],
        parent_position=row["parent_position"],
        from_position=row["from_position"],
        end_position=row["end_position"],
        summary_position=row["summary_position"],
        summary=row["summary"],
        description=row["description"],
        model=row["model"],
        model_settings=None if settings is None else msgspec.json.decode(settings),
        last_message_at=row["last_message_at"],
        archived_at=row["archived_at"],
    )
