"""Waking an agent: one statement raises its fence, counts the attempt and loads its hot state."""

import asyncio
import sys
from datetime import datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from storage import forks
from storage.archives import Holdings
from storage.errors import FencedError, NotFoundError
from storage.pending_records import PendingRequest
from storage.pool import Conn, Row
from storage.records import (
    Agent,
    AgentSettings,
    Block,
    Conversation,
    Message,
    Part,
    Tool,
    ToolCall,
    Usage,
)

MAX_ATTEMPTS = 3
DECODED_AT_ONCE = 200  # messages, about half a millisecond


class PendingCommand(Struct, frozen=True, kw_only=True):
    """A command that waits or was under way, with its run. `attempts` includes this activation.

    More than `MAX_ATTEMPTS` means that it broke every activation so far and must be parked. A `held` one
    waits behind a request that somebody has to answer first; no activation counts for it.
    """

    seq: int
    conversation_id: str
    run_id: str
    state: str
    attempts: int
    command: msgspec.Raw
    attempt: int
    usage: Usage
    accepted_at: datetime
    held: bool = False


class Activated(Struct, frozen=True, kw_only=True):
    """An agent's hot state as of its last checkpoint. Windows are loaded per conversation."""

    agent: Agent
    blocks: tuple[Block, ...]
    tools: tuple[Tool, ...]
    conversations: tuple[Conversation, ...]
    pending: tuple[PendingCommand, ...]
    requests: tuple[PendingRequest, ...] = ()
    intended: tuple[ToolCall, ...] = ()
    holdings: Holdings = Holdings()


# Fencing: an agent that a newer owner has activated keeps its higher fence, and this returns no row.
# Attempts count activations that had the command in hand: every applied command and the head of each
# conversation, which is the answer where the conversation waits for one. `runs.attempt` is never reset,
# because every seq_id of the run's stream contains it.
_ACTIVATE = """
with mine as materialized (
  update agents set fence = $2 where id = $1 and fence <= $2 returning *
), waiting as materialized (
  select i.*, p.conversation_id is not null and i.state = 'new' and not i.command ? 'approvals' as held
    from inbox i left join pending_requests p on p.conversation_id = i.conversation_id
   where i.agent_id = $1 and i.state in ('new', 'applied') and exists (select from mine)
), counted as (
  update inbox i set attempts = i.attempts + 1
   where i.seq in (
     select w.seq from waiting w
      where w.state = 'applied'
         or w.seq = (select min(o.seq) from waiting o
                      where o.conversation_id = w.conversation_id and not o.held))
  returning i.seq, i.run_id, i.attempts
), tried as (
  update runs r set attempt = r.attempt + 1 from counted c where r.id = c.run_id
  returning r.id, r.attempt
)
select m.*,
  (select coalesce(jsonb_agg(to_jsonb(b) order by ab.ordinal, ab.label), '[]')
     from agents_blocks ab join blocks b on b.id = ab.block_id where ab.agent_id = $1) as block_rows,
  (select coalesce(jsonb_agg(to_jsonb(t) order by at.ordinal), '[]')
     from agents_tools at join tools t on t.id = at.tool_id where at.agent_id = $1) as tool_rows,
  (select coalesce(jsonb_agg(to_jsonb(c) order by c.created_at), '[]')
     from conversations_now c where c.agent_id = $1 and c.deleted_at is null) as conversation_rows,
  (select coalesce(jsonb_agg(jsonb_build_object(
            'seq', w.seq, 'conversation_id', w.conversation_id, 'run_id', w.run_id, 'state', w.state,
            'attempts', coalesce(c.attempts, w.attempts), 'command', w.command,
            'attempt', coalesce(t.attempt, r.attempt), 'usage', r.usage, 'accepted_at', w.accepted_at,
            'held', w.held)
          order by w.seq), '[]')
     from waiting w join runs r on r.id = w.run_id
     left join counted c on c.seq = w.seq
     left join tried t on t.id = w.run_id) as pending_rows,
  (select coalesce(jsonb_agg(to_jsonb(p)), '[]')
     from pending_requests p where p.agent_id = $1) as request_rows,
  (select coalesce(jsonb_agg(to_jsonb(t)), '[]')
     from tool_calls t where t.agent_id = $1 and t.state = 'intended') as call_rows,
  (select count(*)
     from archives_agents aa join passages p on p.archive_id = aa.archive_id
    where aa.agent_id = $1) as passages,
  (select a.embedding
     from archives_agents aa join archives a on a.id = aa.archive_id
    where aa.agent_id = $1
    order by aa.is_owner desc, aa.created_at, a.id limit 1) as embedding
  from mine m
"""

_EXISTS = "select fence from agents where id = $1"

# Made once: a decoder is built anew for a type that is named in a call, at ten times the cost of decoding.
_settings = msgspec.json.Decoder(AgentSettings)
_blocks = msgspec.json.Decoder(tuple[Block, ...])
_tools = msgspec.json.Decoder(tuple[Tool, ...])
_conversations = msgspec.json.Decoder(tuple[Conversation, ...])
_pending = msgspec.json.Decoder(tuple[PendingCommand, ...])
_requests = msgspec.json.Decoder(tuple[PendingRequest, ...])
_calls = msgspec.json.Decoder(tuple[ToolCall, ...])


async def activate(conn: Conn, agent_id: str, *, fence: int) -> Activated:
    """Take the agent under `fence` and return its state.

    Raises:
        NotFoundError: There is no such agent.
        FencedError: A newer owner holds it.
    """
    row = await conn.fetchrow(_ACTIVATE, agent_id, fence)
    if row is None:
        if await conn.fetchrow(_EXISTS, agent_id) is None:
            raise NotFoundError("agent", agent_id)
        raise FencedError(agent_id, fence)
    return Activated(
        agent=Agent(
            id=row["id"],
            organization_id=row["organization_id"],
            name=row["name"],
            settings=_shared(_settings.decode(row["settings"])),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            tags=tuple(row["tags"]),
            hidden=row["hidden"],
            fence=row["fence"],
            version=row["version"],
            checkpoint_id=row["checkpoint_id"],
            last_stop_reason=row["last_stop_reason"],
            created_by_id=row["created_by_id"],
            last_updated_by_id=row["last_updated_by_id"],
        ),
        blocks=_blocks.decode(row["block_rows"]),
        tools=_tools.decode(row["tool_rows"]),
        conversations=_conversations.decode(row["conversation_rows"]),
        pending=_pending.decode(row["pending_rows"]),
        requests=_requests.decode(row["request_rows"]),
        intended=_calls.decode(row["call_rows"]),
        holdings=Holdings(passages=row["passages"], embedding=row["embedding"]),
    )


def _shared(settings: AgentSettings) -> AgentSettings:
    """Return the settings with texts that many agents have in common kept once in memory."""
    return replace(settings, system=sys.intern(settings.system), model=sys.intern(settings.model))


# A clean drain hands its own count back: only crashes may add up to a dead letter.
_TAKE_BACK = "update inbox set attempts = attempts - 1 where seq = any ($1::bigint[]) and attempts > 0"


async def take_back(conn: Conn, seqs: list[int]) -> None:
    """Undo the attempts that this activation counted for commands it did not finish."""
    await conn.execute(_TAKE_BACK, seqs)


# The activation that met a command hot did not count it, and a committed step took its count away.
_COUNT_CRASH = "update inbox set attempts = attempts + 1 where seq = any ($1::bigint[])"


async def count_crash(conn: Conn, seqs: list[int]) -> None:
    """Count a crash of commands for which this activation had counted no attempt."""
    await conn.execute(_COUNT_CRASH, seqs)


# Two reads along the positions, neither of which sorts: a condition with "or" is read whole and sorted.
_WINDOW = """
(select id, position, role, content, tokens, run_id, step_id, name, otid, sender_id, created_at, excluded,
        interrupted
   from messages where conversation_id = $1 and position in (0, $4) order by position)
union all
(select id, position, role, content, tokens, run_id, step_id, name, otid, sender_id, created_at, excluded,
        interrupted
   from messages
  where conversation_id = $1 and position between greatest($2, 1) and $3 - 1 and role <> 'summary'
    and position is distinct from $4
  order by position)
"""
# What a fork begins with: rows of other conversations.
_SHARED_WINDOW = """
select m.id, m.position, m.role, m.content, m.tokens, m.run_id, m.step_id, m.name, m.otid, m.sender_id,
       m.created_at, m.excluded, m.interrupted
  from unnest($1::text[], $2::bigint[], $3::bigint[]) s (id, low, high)
  join messages m on m.conversation_id = s.id and m.position > s.low and m.position <= s.high
 where m.position = $6 or m.position between greatest($4, 1) and $5 - 1 and m.role <> 'summary'
"""
_parts = msgspec.json.Decoder(tuple[Part, ...])


async def window(conn: Conn, conversation: Conversation) -> list[Message]:
    """Return the system message, the summary in force if there is one, and the messages of the window.

    Those of the window are in order, excluded ones included. Other work goes on while a long one is decoded.
    """
    bounds = (conversation.from_position, conversation.end_position, conversation.summary_position)
    shared = await forks.ancestors(conn, conversation)
    rows = await conn.fetch(_WINDOW, conversation.id, *bounds)
    if shared:
        own = {row["position"] for row in rows}  # copies that `forks.part` made meanwhile are among them
        shown = await conn.fetch(_SHARED_WINDOW, *forks.columns(shared), *bounds)
        rows += [row for row in shown if row["position"] not in own]
    found: list[Message] = []
    for first in range(0, len(rows), DECODED_AT_ONCE):
        if first:
            await asyncio.sleep(0)
        found += [_in_window(conversation, row) for row in rows[first : first + DECODED_AT_ONCE]]
    return sorted(found, key=_reading_order)


def _reading_order(message: Message) -> tuple[bool, bool, int]:
    return message.position > 0, message.role != "summary", message.position


def _in_window(conversation: Conversation, row: Row) -> Message:
    """Return a message of the conversation. By unpacking, as a look-up by name takes longer than the rest."""
    (
        message_id,
        position,
        role,
        content,
        tokens,
        run_id,
        step_id,
        name,
        otid,
        sender_id,
        created_at,
        excluded,
        interrupted,
    ) = row
    return Message(
        id=message_id,
        organization_id=conversation.organization_id,
        agent_id=conversation.agent_id,
        conversation_id=conversation.id,
        position=position,
        role=role,
        content=_parts.decode(content),
        created_at=created_at,
        name=name,
        otid=otid,
        sender_id=sender_id,
        run_id=run_id,
        step_id=step_id,
        tokens=tokens,
        excluded=excluded,
        interrupted=interrupted,
    )


_BLOCKS = """
select coalesce(jsonb_agg(to_jsonb(b) order by ab.ordinal, ab.label), '[]')
  from agents_blocks ab join blocks b on b.id = ab.block_id where ab.agent_id = $1
"""


async def blocks_of(conn: Conn, agent_id: str) -> tuple[Block, ...]:
    """Return the agent's blocks as they are now; used when a compare-and-set lost."""
    return _blocks.decode(await conn.fetchval(_BLOCKS, agent_id))


_TOOLS = """
select coalesce(jsonb_agg(to_jsonb(t) order by at.ordinal), '[]')
  from agents_tools at join tools t on t.id = at.tool_id where at.agent_id = $1
"""


async def tools_of(conn: Conn, agent_id: str) -> tuple[Tool, ...]:
    """Return the agent's tools as they are now."""
    return _tools.decode(await conn.fetchval(_TOOLS, agent_id))
