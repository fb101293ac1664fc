"""The one writer of steps: a fenced commit of messages, blocks, runs and inbox, many agents at once."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from storage.errors import FencedError, StaleBlocksError, StorageError
from storage.pool import Conn
from storage.records import Message, Part, RunError, Step, ToolCall, Usage


class BlockWrite(Struct, frozen=True, kw_only=True):
    """A new value for a block that must still have `version`."""

    id: str
    version: int
    value: str


class MessageRewrite(Struct, frozen=True, kw_only=True):
    """A change to a stored message: a rebuilt system prompt, or an input that is never sent again."""

    id: str
    content: tuple[Part, ...] | None = None
    tokens: int | None = None
    excluded: bool | None = None


class RunUpdate(Struct, frozen=True, kw_only=True):
    """Where a run stands after the step; `completed_at` is set exactly when `status` is terminal."""

    id: str
    status: str
    usage: Usage = Usage()
    stop_reason: str | None = None
    error: RunError | None = None
    completed_at: datetime | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None


class InboxUpdate(Struct, frozen=True, kw_only=True):
    """Where a command stands after the step. A committed step resets its attempts."""

    seq: int
    state: str


class WindowUpdate(Struct, frozen=True, kw_only=True):
    """The conversation's window after the step: `[from_position, end_position)`."""

    id: str
    from_position: int
    end_position: int


class Checkpoint(Struct, frozen=True, kw_only=True):
    """All that one step changes. It commits whole or not at all, under `fence` and at `version`."""

    id: str
    agent_id: str
    fence: int
    version: int
    messages: tuple[Message, ...] = ()
    rewrites: tuple[MessageRewrite, ...] = ()
    blocks: tuple[BlockWrite, ...] = ()
    runs: tuple[RunUpdate, ...] = ()
    steps: tuple[Step, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    inbox: tuple[InboxUpdate, ...] = ()
    windows: tuple[WindowUpdate, ...] = ()
    stop_reason: str | None = None
    duration_ms: int | None = None


# Fencing: an agent whose fence or version is not the one named belongs to a newer owner, and nothing
# of its step is written; nor is a step whose command is over already, so no command is handled twice.
# Blocks are locked after agents (the lock order of the package) and compared; of two steps in one
# batch that write the same block the second is stale, because one UPDATE would silently drop one of
# them. Every insert and update is gated on the agents that passed.
_HEAD = """
with input as materialized (
  select * from json_to_recordset($1::json) as i (
    id text, agent_id text, fence bigint, version bigint, stop_reason text, duration_ms int)
), held as materialized (
  select a.id, a.fence, a.version
    from agents a join input i on i.agent_id = a.id
   order by a.id
     for no key update of a
), handled as materialized (
  select u.agent_id
    from json_to_recordset($5::json) as u (agent_id text, seq bigint)
    join inbox x on x.seq = u.seq
   where x.state in ('done', 'dead')
)"""

_BLOCK_GATE = """, wanted as materialized (
  select w.*, row_number() over (partition by w.id order by w.agent_id) as turn
    from json_to_recordset($3::json) as w (agent_id text, id text, version bigint, value text)
), locked as materialized (
  select b.id, b.version
    from blocks b
   where b.id = any (array(select id from wanted)) and (select count(*) from held) >= 0
   order by b.id
     for no key update
), stale as materialized (
  select w.agent_id, array_agg(w.id) as ids
    from wanted w left join locked b on b.id = w.id
   where b.version is distinct from w.version or w.turn > 1
   group by w.agent_id
), verdict as materialized (
  select i.agent_id, i.id,
         h.id is not null and h.fence = i.fence and h.version = i.version
           and i.agent_id not in (select agent_id from handled) as owned,
         s.ids as stale
    from input i
    left join held h on h.id = i.agent_id
    left join stale s on s.agent_id = i.agent_id
)"""

_NO_BLOCK_GATE = """, verdict as materialized (
  select i.agent_id, i.id,
         h.id is not null and h.fence = i.fence and h.version = i.version
           and i.agent_id not in (select agent_id from handled) as owned,
         null::text[] as stale
    from input i left join held h on h.id = i.agent_id
)"""

_BODY = """, ok as materialized (
  select agent_id from verdict where owned and stale is null
), agent as (
  update agents a
     set version = a.version + 1, checkpoint_id = i.id,
         last_stop_reason = coalesce(i.stop_reason, a.last_stop_reason),
         last_run_completed_at = case when i.stop_reason is null then a.last_run_completed_at else now() end,
         last_run_duration_ms = coalesce(i.duration_ms, a.last_run_duration_ms)
    from input i
   where a.id = i.agent_id and i.agent_id in (select agent_id from ok)
), message as (
  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name, otid,
                        sender_id, run_id, step_id, tokens, excluded, interrupted, created_at)
  select m.id, m.conversation_id, m.position, m.agent_id, m.organization_id, m.role, m.content, m.name,
         m.otid, m.sender_id, m.run_id, m.step_id, m.tokens, m.excluded, m.interrupted, m.created_at
    from json_to_recordset($2::json) as m (
           id text, conversation_id text, position bigint, agent_id text, organization_id text, role text,
           content jsonb, name text, otid text, sender_id text, run_id text, step_id text, tokens int,
           excluded boolean, interrupted boolean, created_at timestamptz)
   where m.agent_id in (select agent_id from ok)
), run as (
  update runs r
     set status = u.status, usage = u.usage, stop_reason = u.stop_reason, error = u.error,
         completed_at = u.completed_at, ttft_ns = coalesce(r.ttft_ns, u.ttft_ns),
         total_duration_ns = u.total_duration_ns
    from json_to_recordset($4::json) as u (
           id text, agent_id text, status text, usage jsonb, stop_reason text, error jsonb,
           completed_at timestamptz, ttft_ns bigint, total_duration_ns bigint)
   where r.id = u.id and u.agent_id in (select agent_id from ok)
     and r.status not in ('completed', 'failed', 'cancelled')
), entry as (
  update inbox x
     set state = u.state, attempts = 0, done_at = case when u.state in ('done', 'dead') then now() end
    from json_to_recordset($5::json) as u (agent_id text, seq bigint, state text)
   where x.seq = u.seq and u.agent_id in (select agent_id from ok)
), view as (
  update conversations c
     set from_position = u.from_position, end_position = u.end_position, last_message_at = now()
    from json_to_recordset($6::json) as u (agent_id text, id text, from_position bigint, end_position bigint)
   where c.id = u.id and u.agent_id in (select agent_id from ok)
), step as (
  insert into steps (id, organization_id, agent_id, run_id, position, status, model, provider,
                     context_window_tokens, usage, stop_reason, error, timing, created_at)
  select s.id, s.organization_id, s.agent_id, s.run_id, s.position, s.status, s.model, s.provider,
         s.context_window_tokens, s.usage, s.stop_reason, s.error, s.timing, s.created_at
    from json_to_recordset($7::json) as s (
           id text, organization_id text, agent_id text, run_id text, position int, status text, model text,
           provider text, context_window_tokens int, usage jsonb, stop_reason text, error jsonb, timing jsonb,
           created_at timestamptz)
   where s.agent_id in (select agent_id from ok)
  on conflict (id) do update
     set status = excluded.status, usage = excluded.usage, stop_reason = excluded.stop_reason,
         error = excluded.error, timing = excluded.timing
)"""

_BLOCK_WRITES = """, block as (
  update blocks b
     set value = w.value, version = b.version + 1, updated_at = now()
    from wanted w
   where b.id = w.id and w.agent_id in (select agent_id from ok)
)"""

# `$3` is named even where no block is written, so that every variant takes the same arguments.
_NO_BLOCK_WRITES = ", unused as (select $3::json)"

_RARE = """, rewrite as (
  update messages m
     set content = coalesce(w.content, m.content), tokens = coalesce(w.tokens, m.tokens),
         excluded = coalesce(w.excluded, m.excluded)
    from json_to_recordset($8::json) as w (
           agent_id text, id text, content jsonb, tokens int, excluded boolean)
   where m.id = w.id and w.agent_id in (select agent_id from ok)
), call as (
  insert into tool_calls (agent_id, step_id, call_id, name, state)
  select t.agent_id, t.step_id, t.call_id, t.name, t.state
    from json_to_recordset($9::json) as t (agent_id text, step_id text, call_id text, name text, state text)
   where t.agent_id in (select agent_id from ok)
  on conflict (step_id, call_id) do update set state = excluded.state, updated_at = now()
)"""

_TAIL = """
select agent_id, owned, stale from verdict
"""

# Four spellings of the one statement: most steps write no block, rewrite nothing and call no tool,
# and Postgres pays for every branch of a statement at every execution.
_STATEMENTS = {
    (blocks, rare): (
        _HEAD
        + (_BLOCK_GATE if blocks else _NO_BLOCK_GATE)
        + _BODY
        + (_BLOCK_WRITES if blocks else _NO_BLOCK_WRITES)
        + (_RARE if rare else "")
        + _TAIL
    )
    for blocks in (False, True)
    for rare in (False, True)
}

_encoder = msgspec.json.Encoder()

Outcome = None | StorageError


async def commit(conn: Conn, batch: Sequence[Checkpoint]) -> list[Outcome]:
    """Commit steps of different agents in one round trip; return one outcome each, in order.

    `None` means committed. `FencedError`: a newer owner; stop. `StaleBlocksError`: reload the named
    blocks, apply the edits again, commit again. An error of the database itself is raised and then
    nothing of the batch is committed; see `landed` for a commit whose answer was lost.
    """
    blocks = any(c.blocks for c in batch)
    rare = any(c.rewrites or c.tool_calls for c in batch)
    arguments = [
        _encoder.encode([_head(c) for c in batch]),
        _encoder.encode([m for c in batch for m in c.messages]),
        _owned(batch, "blocks"),
        _owned(batch, "runs"),
        _owned(batch, "inbox"),
        _owned(batch, "windows"),
        _encoder.encode([s for c in batch for s in c.steps]),
    ]
    if rare:
        arguments += [_owned(batch, "rewrites"), _encoder.encode([t for c in batch for t in c.tool_calls])]
    rows = await conn.fetch(_STATEMENTS[blocks, rare], *arguments)
    verdicts = {row["agent_id"]: row for row in rows}
    return [_outcome(c, verdicts[c.agent_id]["owned"], verdicts[c.agent_id]["stale"]) for c in batch]


def _outcome(checkpoint: Checkpoint, owned: bool, stale: list[str] | None) -> Outcome:
    if not owned:
        return FencedError(checkpoint.agent_id, checkpoint.fence)
    if stale is not None:
        return StaleBlocksError(checkpoint.agent_id, tuple(stale))
    return None


def _head(c: Checkpoint) -> dict[str, str | int | None]:
    return {
        "id": c.id,
        "agent_id": c.agent_id,
        "fence": c.fence,
        "version": c.version,
        "stop_reason": c.stop_reason,
        "duration_ms": c.duration_ms,
    }


def _owned(batch: Sequence[Checkpoint], field: str) -> bytes:
    """Return the rows of `field` of every checkpoint as a JSON array, each with its agent's id."""
    rows: list[bytes] = []
    for checkpoint in batch:
        prefix = b'{"agent_id":"' + checkpoint.agent_id.encode() + b'",'
        rows += [prefix + _encoder.encode(row)[1:] for row in getattr(checkpoint, field)]
    return b"[" + b",".join(rows) + b"]"


_LANDED = "select id, version, checkpoint_id from agents where id = any ($1::text[])"


async def landed(conn: Conn, batch: Sequence[Checkpoint]) -> list[bool]:
    """Return which checkpoints are in the database: the truth about a commit whose answer was lost."""
    rows = await conn.fetch(_LANDED, [c.agent_id for c in batch])
    last = {row["id"]: row["checkpoint_id"] for row in rows}
    return [last.get(c.agent_id) == c.id for c in batch]
