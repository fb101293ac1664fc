"""Writes to a live agent that are not steps: each one fenced transaction on the agent's own row.

A function here runs inside `commit`, which opens the transaction and checks the fence; agents are
locked before blocks, as everywhere.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from storage import archives, words
from storage.errors import ConflictError, FencedError, NotFoundError
from storage.pool import Conn, transaction
from storage.records import (
    AgentSettings,
    BlockChanges,
    Conversation,
    ConversationChanges,
    JsonObject,
    Message,
    Part,
)

# Fencing: zero rows updated means another owner activated the agent after us, or a step of ours that
# we believed lost did commit; in both cases the caller's state is not the truth.
_ADVANCE = """
update agents set version = version + 1, checkpoint_id = $4, updated_at = now()
 where id = $1 and fence = $2 and version = $3
returning id
"""


@asynccontextmanager
async def commit(
    conn: Conn, *, agent_id: str, fence: int, version: int, checkpoint_id: str
) -> AsyncGenerator[Conn, None]:
    """Open the fenced transaction of one edit; it commits when the block ends without an error.

    Raises:
        FencedError: The agent has a newer owner or version.
    """
    async with transaction(conn):
        if await conn.fetchrow(_ADVANCE, agent_id, fence, version, checkpoint_id) is None:
            raise FencedError(agent_id, fence)
        yield conn


_UPDATE = """
update agents
   set name = $2, tags = $3, hidden = $4, settings = $5, last_updated_by_id = coalesce($6, last_updated_by_id)
 where id = $1
"""


async def update_agent(
    conn: Conn,
    agent_id: str,
    *,
    name: str,
    tags: Sequence[str],
    hidden: bool,
    settings: AgentSettings,
    user_id: str | None,
) -> None:
    """Write what a person configures about the agent."""
    await conn.execute(_UPDATE, agent_id, name, list(tags), hidden, msgspec.json.encode(settings), user_id)


_ATTACH_BLOCK = """
insert into agents_blocks (agent_id, block_id, label, ordinal)
select a.id, b.id, b.label, coalesce((select max(ordinal) + 1 from agents_blocks where agent_id = a.id), 0)
  from agents a join blocks b on b.organization_id = a.organization_id
 where a.id = $1 and b.id = $2
on conflict (agent_id, block_id) do nothing
returning block_id
"""

_HAS_BLOCK = "select 1 from agents_blocks where agent_id = $1 and block_id = $2"


async def attach_block(conn: Conn, agent_id: str, block_id: str) -> None:
    """Attach a block of the agent's organisation. Attaching twice is no error.

    Raises:
        NotFoundError: There is no such block.
        ConflictError: The agent has another block with this label (`block_label_is_unique_per_agent`).
    """
    attached = await conn.fetchrow(_ATTACH_BLOCK, agent_id, block_id)
    if attached is None and await conn.fetchrow(_HAS_BLOCK, agent_id, block_id) is None:
        raise NotFoundError("block", block_id)


_DETACH_BLOCK = "delete from agents_blocks where agent_id = $1 and block_id = $2"


async def detach_block(conn: Conn, agent_id: str, block_id: str) -> None:
    """Detach a block; it survives. Detaching what is not attached is no error."""
    await conn.execute(_DETACH_BLOCK, agent_id, block_id)


_DETACH_OTHER_BLOCKS = "delete from agents_blocks where agent_id = $1 and block_id <> all ($2::text[])"


async def replace_blocks(conn: Conn, agent_id: str, block_ids: Sequence[str]) -> None:
    """Make these blocks, in any order, the agent's only ones."""
    await conn.execute(_DETACH_OTHER_BLOCKS, agent_id, list(block_ids))
    for block_id in block_ids:
        await attach_block(conn, agent_id, block_id)


# Compare-and-set: a block may be shared, so its own version decides, not the agent's.
_UPDATE_BLOCK = """
update blocks
   set label = coalesce($3, label), value = coalesce($4, value), limit_chars = coalesce($5, limit_chars),
       description = case when $6 then $7 else description end, read_only = coalesce($8, read_only),
       metadata = coalesce($9, metadata), hidden = coalesce($10, hidden), tags = coalesce($11, tags),
       project_id = case when $12 then $13 else project_id end,
       template = case when $14::jsonb is null then template else template || $14 end,
       last_updated_by_id = coalesce($15, last_updated_by_id), version = version + 1, updated_at = now()
 where id = $1 and version = $2
returning version
"""

_RELABEL = "update agents_blocks set label = $2 where block_id = $1"


async def update_block(conn: Conn, block_id: str, *, version: int, changes: BlockChanges) -> bool:
    """Change a block that must still have `version`; return whether it had.

    Raises:
        ConflictError: The new label is taken on an agent that holds the block.
    """

    def given(value: Any) -> Any:
        return None if value is msgspec.UNSET else value

    row = await conn.fetchrow(
        _UPDATE_BLOCK,
        block_id,
        version,
        given(changes.label),
        given(changes.value),
        given(changes.limit_chars),
        changes.description is not msgspec.UNSET,
        given(changes.description),
        given(changes.read_only),
        _json(given(changes.metadata)),
        given(changes.hidden),
        None if changes.tags is msgspec.UNSET else list(changes.tags),
        changes.project_id is not msgspec.UNSET,
        given(changes.project_id),
        _json(given(changes.template)),
        changes.last_updated_by_id,
    )
    if row is not None and changes.label is not msgspec.UNSET:
        await conn.execute(_RELABEL, block_id, changes.label)
    return row is not None


def _json(value: JsonObject | None) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


_ATTACH_TOOL = """
insert into agents_tools (agent_id, tool_id, ordinal)
select a.id, t.id, coalesce((select max(ordinal) + 1 from agents_tools where agent_id = a.id), 0)
  from agents a join tools t on t.organization_id = a.organization_id
 where a.id = $1 and t.id = $2
on conflict (agent_id, tool_id) do nothing
returning tool_id
"""

_HAS_TOOL = "select 1 from agents_tools where agent_id = $1 and tool_id = $2"


async def attach_tool(conn: Conn, agent_id: str, tool_id: str) -> bool:
    """Attach a tool of the agent's organisation; return whether it was not before, which is no error.

    Raises:
        NotFoundError: There is no such tool.
    """
    attached = await conn.fetchrow(_ATTACH_TOOL, agent_id, tool_id)
    if attached is None and await conn.fetchrow(_HAS_TOOL, agent_id, tool_id) is None:
        raise NotFoundError("tool", tool_id)
    return attached is not None


_DETACH_TOOL = "delete from agents_tools where agent_id = $1 and tool_id = $2"


async def detach_tool(conn: Conn, agent_id: str, tool_id: str) -> None:
    """Detach a tool. Detaching what is not attached is no error."""
    await conn.execute(_DETACH_TOOL, agent_id, tool_id)


_DETACH_OTHER_TOOLS = "delete from agents_tools where agent_id = $1 and tool_id <> all ($2::text[])"


async def replace_tools(conn: Conn, agent_id: str, tool_ids: Sequence[str]) -> list[str]:
    """Make these tools the agent's only ones; return those that it did not have."""
    await conn.execute(_DETACH_OTHER_TOOLS, agent_id, list(tool_ids))
    return [tool_id for tool_id in tool_ids if await attach_tool(conn, agent_id, tool_id)]


_CREATE_CONVERSATION = """
with conversation as (
  insert into conversations (id, organization_id, agent_id, summary, description, model, model_settings)
  select $2, a.organization_id, a.id, $3, $4, $5, $6 from agents a where a.id = $1
  returning id, organization_id, agent_id
)
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens)
select $7, c.id, 0, c.agent_id, c.organization_id, 'system', $8, $9 from conversation c
"""


async def create_conversation(
    conn: Conn,
    agent_id: str,
    *,
    conversation_id: str,
    summary: str | None,
    description: str | None,
    model: str | None,
    model_settings: JsonObject | None,
    system_id: str,
    system: tuple[Part, ...],
    system_tokens: int,
) -> None:
    """Open a conversation with its own system message at position 0."""
    await conn.execute(
        _CREATE_CONVERSATION,
        agent_id,
        conversation_id,
        summary,
        description,
        model,
        _json(model_settings),
        system_id,
        msgspec.json.encode(system),
        system_tokens,
    )


_UPDATE_CONVERSATION = """
update conversations c
   set summary = $3, description = $4, model = $5, model_settings = $6, archived_at = $7,
       end_position = n.end_position, last_message_at = case when $8 then $9 else n.last_message_at end,
       updated_at = now()
  from conversations_now n
 where n.id = c.id and c.id = $2 and c.agent_id = $1 and c.deleted_at is null
returning c.id
"""


async def update_conversation(conn: Conn, conversation: Conversation, changes: ConversationChanges) -> None:
    """Write what people may change about `conversation`, which holds the changes already.

    Its last message's time is the steps' to write unless `changes` name it.

    Raises:
        NotFoundError: It is closed.
    """
    row = await conn.fetchrow(
        _UPDATE_CONVERSATION,
        conversation.agent_id,
        conversation.id,
        conversation.summary,
        conversation.description,
        conversation.model,
        _json(conversation.model_settings),
        conversation.archived_at,
        changes.last_message_at is not msgspec.UNSET,
        None if changes.last_message_at is msgspec.UNSET else changes.last_message_at,
    )
    if row is None:
        raise NotFoundError("conversation", conversation.id)


_DELETE_CONVERSATION = """
update conversations set deleted_at = now(), updated_at = now()
 where id = $2 and agent_id = $1 and id <> agent_id and deleted_at is null
returning id
"""


async def delete_conversation(conn: Conn, agent_id: str, conversation_id: str) -> None:
    """Close a conversation. The default one cannot be closed.

    Raises:
        NotFoundError: There is no such open conversation.
        ConflictError: It is the default conversation.
    """
    if conversation_id == agent_id:
        raise ConflictError("the default conversation cannot be deleted; delete the agent instead")
    if await conn.fetchrow(_DELETE_CONVERSATION, agent_id, conversation_id) is None:
        raise NotFoundError("conversation", conversation_id)


_RESET = """
update conversations c
   set from_position = n.end_position, end_position = n.end_position + $3, summary_position = null,
       last_message_at = n.last_message_at, updated_at = now()
  from conversations_now n
 where n.id = c.id and c.id = $2 and c.agent_id = $1 and c.deleted_at is null
returning c.id
"""

_BEGIN = """
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens,
                      created_at)
select m.id, m.conversation_id, m.position, m.agent_id, m.organization_id, m.role, m.content, m.tokens,
       m.created_at
  from jsonb_to_recordset($1) as m (
         id text, conversation_id text, position bigint, agent_id text, organization_id text, role text,
         content jsonb, tokens int, created_at timestamptz)
"""


async def reset_messages(conn: Conn, agent_id: str, conversation_id: str, initial: Sequence[Message]) -> None:
    """Empty a conversation's window and let it begin with `initial`; what it held stays stored.

    Raises:
        NotFoundError: There is no such open conversation.
    """
    if await conn.fetchrow(_RESET, agent_id, conversation_id, len(initial)) is None:
        raise NotFoundError("conversation", conversation_id)
    if initial:
        await conn.execute(_BEGIN, msgspec.json.encode(initial))


# Rows without a foreign key go with their agent here. Commands that are being accepted hold its row: those
# that came first are committed when its deletion returns, and the statements after it see them.
_DELETE_MESSAGES = """
delete from messages where conversation_id in (select id from conversations where agent_id = $1)
"""
_CONVERSATIONS = "select id from conversations where agent_id = $1"
_DELETE_AGENT = "delete from agents where id = $1"
_DELETE_WORK = (
    "delete from inbox where agent_id = $1",
    "delete from steps where agent_id = $1",
    "delete from runs where agent_id = $1",
)


async def delete_agent(conn: Conn, agent_id: str) -> None:
    """Delete the agent with its conversations, messages, runs, inbox and own archive. Its blocks survive.

    An archive that other agents hold survives as well.
    """
    await archives.delete_own(conn, agent_id)
    conversation_ids = [row["id"] for row in await conn.fetch(_CONVERSATIONS, agent_id)]
    await conn.execute(_DELETE_MESSAGES, agent_id)
    await conn.execute(_DELETE_AGENT, agent_id)
    for statement in _DELETE_WORK:
        await conn.execute(statement, agent_id)
    await words.forget(conn, conversation_ids)


_REWRITE_SYSTEM = """
update messages set content = $2, tokens = $3 where conversation_id = $1 and position = 0
"""


async def rewrite_system(conn: Conn, conversation_id: str, content: tuple[Part, ...], tokens: int) -> None:
    """Replace the text of a conversation's stored system message."""
    await conn.execute(_REWRITE_SYSTEM, conversation_id, msgspec.json.encode(content), tokens)
