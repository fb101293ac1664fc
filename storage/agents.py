"""Agents as rows: created whole in one statement, read with what belongs to them, listed by key.

What changes a live agent is not here: that goes through its actor (`storage.edits`).
"""

from collections.abc import Sequence
from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct

from storage.errors import NotFoundError, UnknownToolsError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import SHARDS, Agent, AgentSettings, Block, Message, Tool

Relation = Literal["blocks", "tools", "messages"]


def shard_of(agent_id: str) -> int:
    """Return the shard that an agent belongs to; the same for ever, on every machine."""
    return crc32(agent_id.encode()) % SHARDS


class NewAgent(Struct, frozen=True, kw_only=True):
    """An agent to create. `blocks` are created with it, `held` exist already; labels are unique in both.

    `tools` are names or ids of tools of the organisation. `system` is its message at position 0, `history`
    are the messages that follow it, one position after the other.
    """

    agent: Agent
    system: Message
    history: tuple[Message, ...] = ()
    blocks: tuple[Block, ...] = ()
    held: tuple[Block, ...] = ()
    tools: tuple[str, ...] = ()


class Profile(Struct, frozen=True, kw_only=True):
    """An agent with what belongs to it; relations that were not asked for are empty.

    `message_ids`, the relation `messages`, are the messages that models see, the system message first.
    """

    agent: Agent
    message_ids: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    tools: tuple[Tool, ...] = ()


class AgentFilter(Struct, frozen=True, kw_only=True):
    """Which agents of an organisation; every filter that is given must hold. Hidden ones never match."""

    organization_id: str
    name: str | None = None
    tags: Sequence[str] | None = None
    match_all_tags: bool = False
    query_text: str | None = None
    block_id: str | None = None
    archive_id: str | None = None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    last_stop_reason: str | None = None
    created_by_id: str | None = None
    ids: Sequence[str] | None = None


# One round trip, and nothing half made: where a tool is missing nothing is inserted. Foreign keys are
# checked at the statement's end, so the order of its parts does not matter.
_CREATE = """
with wanted as materialized (
  select key, ordinal from unnest($10::text[]) with ordinality as w (key, ordinal)
), found as materialized (
  select distinct on (t.id) t.*, w.ordinal
    from wanted w join tools t on t.organization_id = $2 and (t.id = w.key or t.name = w.key)
   order by t.id, w.ordinal
), agent as (
  insert into agents (id, organization_id, name, tags, hidden, settings, shard, created_by_id,
         last_updated_by_id)
  select $1, $2, $3, $4, $5, $6::jsonb || coalesce((
           select jsonb_build_object('tool_rules', coalesce($6::jsonb -> 'tool_rules', '[]') || jsonb_agg(
                    jsonb_build_object('type', 'requires_approval', 'tool_name', f.name) order by f.ordinal))
             from found f
            where f.default_requires_approval
              and not coalesce($6::jsonb -> 'tool_rules', '[]') @> jsonb_build_array(
                    jsonb_build_object('type', 'requires_approval', 'tool_name', f.name))
           having count(*) > 0), '{}'), $7::int, $8, $8
   where not exists (
     select from wanted w where not exists (select from found f where f.id = w.key or f.name = w.key))
  returning id, created_at, settings
), conversation as (
  insert into conversations (id, organization_id, agent_id, end_position)
  select id, $2, id, 1 + jsonb_array_length($16::jsonb) from agent
), system as (
  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens)
  select $11, id, 0, id, $2, 'system', $12, $13 from agent
), history as (
  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name, otid,
         sender_id, tokens, created_at)
  select m.id, agent.id, m.position, agent.id, $2, m.role, m.content, m.name, m.otid, m.sender_id, m.tokens,
         m.created_at
    from agent, jsonb_populate_recordset(null::messages, $16::jsonb) m
  returning *
), words as (
  insert into message_words (conversation_id, position, agent_id, organization_id, role, created_at, words)
  select h.conversation_id, h.position, h.agent_id, h.organization_id, h.role, h.created_at,
         words_of(h.role, h.content, h.agent_id)
    from history h where is_said(h.role, h.step_id, h.excluded, h.content)
), worded as (
  insert into worded_conversations (conversation_id, position)
  select conversation_id, max(position) + 1 from history group by conversation_id
), block as (
  insert into blocks (id, organization_id, label, value, limit_chars, description, read_only, metadata,
         hidden, tags, project_id, template, created_by_id, last_updated_by_id)
  select b.id, b.organization_id, b.label, b.value, b.limit_chars, b.description, b.read_only, b.metadata,
         b.hidden, b.tags, b.project_id, b.template, b.created_by_id, b.last_updated_by_id
    from agent, jsonb_populate_recordset(null::blocks, $9::jsonb) b
), attached as (
  insert into agents_blocks (agent_id, block_id, label, ordinal)
  select agent.id, h.block_id, h.label, h.ordinal - 1
    from agent, unnest($14::text[], $15::text[]) with ordinality as h (block_id, label, ordinal)
), held as (
  insert into agents_tools (agent_id, tool_id, ordinal)
  select agent.id, f.id, f.ordinal - 1 from agent, found f
)
select agent.created_at, agent.settings,
       (select coalesce(jsonb_agg(to_jsonb(f) - 'ordinal' order by f.ordinal), '[]') from found f) as tools
  from agent
"""

_MISSING = """
select w.key from unnest($1::text[]) with ordinality as w (key, ordinal)
 where not exists (
   select from tools t where t.organization_id = $2 and (t.id = w.key or t.name = w.key))
 order by w.ordinal
"""

_tools = msgspec.json.Decoder(tuple[Tool, ...])
_blocks = msgspec.json.Decoder(tuple[Block, ...])
_settings = msgspec.json.Decoder(AgentSettings)
_encode = msgspec.json.Encoder().encode


async def create(conn: Conn, new: NewAgent) -> Profile:
    """Store an agent with its default conversation, system message, blocks and tools.

    Tools that ask for an approval by default get a rule that says so, unless the agent has one.

    Raises:
        UnknownToolsError: Some of the tools do not exist; nothing was stored.
        ConflictError: A block it should hold was deleted meanwhile, or an id is taken.
    """
    agent, system = new.agent, new.system
    attached = (*new.held, *new.blocks)
    row = await conn.fetchrow(
        _CREATE,
        agent.id,
        agent.organization_id,
        agent.name,
        list(agent.tags),
        agent.hidden,
        _encode(agent.settings),
        shard_of(agent.id),
        agent.created_by_id,
        _encode(new.blocks),
        list(new.tools),
        system.id,
        _encode(system.content),
        system.tokens,
        [block.id for block in attached],
        [block.label for block in attached],
        _encode(new.history),
    )
    if row is None:
        missing = await conn.fetch(_MISSING, list(new.tools), agent.organization_id)
        raise UnknownToolsError([row["key"] for row in missing])
    at = row["created_at"]
    stamp = msgspec.structs.replace
    tools = _tools.decode(row["tools"])
    if any(tool.default_requires_approval for tool in tools):
        agent = stamp(agent, settings=_settings.decode(row["settings"]))
    return Profile(
        agent=stamp(agent, created_at=at, updated_at=at, last_updated_by_id=agent.created_by_id),
        message_ids=(system.id, *(message.id for message in new.history)),
        blocks=(*new.held, *(stamp(block, created_at=at, updated_at=at) for block in new.blocks)),
        tools=tools,
    )


_COLUMNS = """
select a.id, a.organization_id, a.name, a.settings, a.created_at, a.updated_at, a.tags, a.hidden, a.fence,
       a.version, a.checkpoint_id, a.last_stop_reason, a.last_run_completed_at, a.last_run_duration_ms,
       a.created_by_id, a.last_updated_by_id
"""

# The messages are the one relation that grows with an agent's history.
_RELATED: dict[Relation, str] = {
    "blocks": """,
       (select coalesce(jsonb_agg(to_jsonb(b) || jsonb_build_object('label', ab.label)
                                  order by ab.ordinal, ab.label), '[]')
          from agents_blocks ab join blocks b on b.id = ab.block_id where ab.agent_id = a.id) as blocks
""",
    "tools": """,
       (select coalesce(jsonb_agg(to_jsonb(t) order by at.ordinal), '[]')
          from agents_tools at join tools t on t.id = at.tool_id where at.agent_id = a.id) as tools
""",
    "messages": """,
       array(select m.id from conversations_now c join messages m on m.conversation_id = c.id
              where c.id = a.id and not m.excluded
                and (m.position in (0, c.summary_position)
                     or m.position >= c.from_position and m.position < c.end_position and m.role <> 'summary')
              order by m.position > 0, m.role <> 'summary', m.position) as message_ids
""",
}

EVERYTHING: frozenset[Relation] = frozenset(_RELATED)


def _read(relations: frozenset[Relation]) -> str:
    parts = (text for name, text in _RELATED.items() if name in relations)
    return f"{_COLUMNS}{''.join(parts)}  from agents a"


async def get(
    conn: Conn, agent_id: str, *, organization_id: str, relations: frozenset[Relation] = EVERYTHING
) -> Profile:
    """Return an agent as of its last commit.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    statement = f"{_read(relations)} where a.id = $1 and a.organization_id = $2"
    row = await conn.fetchrow(statement, agent_id, organization_id)
    if row is None:
        raise NotFoundError("agent", agent_id)
    return _profile(row)


_NAMES = """
select id, name from agents
 where organization_id = $1 and not hidden and ($2::text[] is null or id = any ($2))
 order by created_at desc, id desc
 limit $3
"""


async def names(
    conn: Conn, *, organization_id: str, among: Sequence[str] | None, limit: int
) -> list[tuple[str, str]]:
    """Return (id, name) of the youngest agents of an organisation, or of those `among` that it has."""
    rows = await conn.fetch(_NAMES, organization_id, None if among is None else list(among), limit)
    return [(row["id"], row["name"]) for row in rows]


_EXISTS = "select 1 from agents where id = $1 and organization_id = $2"


async def check(conn: Conn, agent_id: str, *, organization_id: str) -> None:
    """Make sure that the organisation has this agent.

    Raises:
        NotFoundError: It has not.
    """
    if await conn.fetchval(_EXISTS, agent_id, organization_id) is None:
        raise NotFoundError("agent", agent_id)


_CURSOR = "select {}, id from agents where id = $1 and organization_id = $2"
_SORTS: dict[str, str] = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "last_run_completion": "coalesce(last_run_completed_at, '-infinity')",
}
_ORDERS: dict[str, Order] = {
    name: Order(columns=(column, "id"), cursor=_CURSOR.format(column), noun="agent")
    for name, column in _SORTS.items()
}


async def list_page(
    conn: Conn,
    page: Page,
    *,
    where: AgentFilter,
    relations: frozenset[Relation] = EVERYTHING,
    order_by: Literal["created_at", "updated_at", "last_run_completion"] = "created_at",
) -> list[Profile]:
    """Return a page of agents.

    Raises:
        NotFoundError: The cursor names no agent of the organisation.
    """
    select = _filtered(_read(relations), where)
    rows = await select.page(conn, page, order=_ORDERS[order_by], scope=where.organization_id)
    return [_profile(row) for row in rows]


async def count(conn: Conn, *, where: AgentFilter) -> int:
    """Return how many agents match."""
    return await _filtered("select count(*) from agents a", where).value(conn)


def _filtered(head: str, where: AgentFilter) -> Select:
    select = Select(head).where("a.organization_id = {}", where.organization_id).where("not a.hidden")
    if where.ids is not None:
        select.where("a.id = any ({}::text[])", list(where.ids))
    if where.name is not None:
        select.where("a.name = {}", where.name)
    if where.tags:
        select.where("a.tags @> {}" if where.match_all_tags else "a.tags && {}", list(where.tags))
    if where.query_text is not None:
        select.where("strpos(lower(a.name), lower({}::text)) > 0", where.query_text)
    if where.block_id is not None:
        select.where("a.id in (select agent_id from agents_blocks where block_id = {})", where.block_id)
    if where.archive_id is not None:
        held = "a.id in (select agent_id from archives_agents where archive_id = {})"
        select.where(held, where.archive_id)
    if where.last_stop_reason is not None:
        select.where("a.last_stop_reason = {}", where.last_stop_reason)
    if where.created_by_id is not None:
        select.where("a.created_by_id = {}", where.created_by_id)
    for name in ("project_id", "template_id", "base_template_id"):
        if (value := getattr(where, name)) is not None:
            select.where("a.settings ->> '" + name + "' = {}", value)
    return select


def _profile(row: Row) -> Profile:
    agent = Agent(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        settings=_settings.decode(row["settings"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tags=tuple(row["tags"]),
        hidden=row["hidden"],
        fence=row["fence"],
        version=row["version"],
        checkpoint_id=row["checkpoint_id"],
        last_stop_reason=row["last_stop_reason"],
        last_run_completed_at=row["last_run_completed_at"],
        last_run_duration_ms=row["last_run_duration_ms"],
        created_by_id=row["created_by_id"],
        last_updated_by_id=row["last_updated_by_id"],
    )
    blocks, tools, seen = row.get("blocks"), row.get("tools"), row.get("message_ids")
    return Profile(
        agent=agent,
        message_ids=() if seen is None else tuple(seen),
        blocks=() if blocks is None else _blocks.decode(blocks),
        tools=() if tools is None else _tools.decode(tools),
    )
