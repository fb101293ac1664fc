"""Conversations as they are stored: one by id, an agent's list, and the messages in a window."""

from typing import Literal

import msgspec

from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import Conversation

SELECT = """
select id, organization_id, agent_id, created_at, updated_at, parent_id, parent_position,
       from_position, end_position, summary_position, summary, description, model, model_settings,
       last_message_at,
       archived_at"""  # from conversations: the columns that `of_row` wants

_READ = f"{SELECT} from conversations "

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
select coalesce(last_message_at, created_at), id from conversations
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


async def window_ids(conn: Conn, conversation: Conversation) -> list[str]:
    """Return the ids of the messages that models see: the system prompt, the summary, then the window."""
    rows = await conn.fetch(
        _WINDOW,
        conversation.id,
        conversation.from_position,
        conversation.end_position,
        conversation.summary_position,
    )
    return [row["id"] for row in rows]


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
