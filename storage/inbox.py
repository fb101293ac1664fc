"""The durable queue of accepted commands: accepted once by key, listed while pending, purged when old."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from storage.errors import KeyReusedError, NotFoundError, StorageError
from storage.pool import Conn, Row
from storage.records import JsonObject


class Submission(Struct, frozen=True, kw_only=True):
    """A command to accept, with the run that will handle it. `command` is its JSON."""

    agent_id: str
    organization_id: str
    conversation_id: str
    run_id: str
    key: str
    request_hash: str
    caller: str
    command: msgspec.Raw
    background: bool = False
    request_config: JsonObject = {}
    callback_url: str | None = None


class Accepted(Struct, frozen=True, kw_only=True):
    """The verdict on one submission. `replayed` names the first run of a repeated key."""

    seq: int
    run_id: str
    conversation_id: str
    accepted_at: datetime
    replayed: bool = False


class Pending(Struct, frozen=True, kw_only=True):
    """Where a command waits that no actor may know of yet."""

    seq: int
    agent_id: str
    conversation_id: str
    run_id: str


# One statement for many submissions: a key that is known inserts nothing and returns the first run.
# Whoever races for one key (two in a batch, two processes, a batch that is sent again while its first
# copy is still under way) meets at the unique constraint; the loser reads the winner's row in `_SETTLE`.
# A run is inserted only beside its command, so no crash leaves one without the other. Their agent's row is
# held against its deletion until they are committed, in the order of the ids: whoever comes after the
# deletion finds no agent, and the deletion finds whoever came before. It stands in for two foreign keys.
_ACCEPT = """
with input as materialized (
  select i.*, c.id is not null as found
    from rows from (json_to_recordset($1::json) as (
           agent_id text, organization_id text, conversation_id text, run_id text, key text,
           request_hash text, caller text, command jsonb, background boolean,
           request_config json, callback_url text))
         with ordinality as i (agent_id, organization_id, conversation_id, run_id, key,
           request_hash, caller, command, background, request_config, callback_url, ordinal)
    left join lateral (  -- offset 0: by its key alone, whatever the planner thinks of other indexes
           select * from conversations where id = i.conversation_id offset 0) c
      on c.agent_id = i.agent_id and c.organization_id = i.organization_id and c.deleted_at is null
), known as materialized (
  select i.ordinal, x.seq, x.run_id, x.conversation_id, x.accepted_at,
         x.request_hash = decode(i.request_hash, 'hex') as same
    from input i join inbox x on x.agent_id = i.agent_id and x.key = i.key
), agent as materialized (
  select a.id from agents a
   where a.id in (select i.agent_id from input i where i.found)
   order by a.id
     for key share
), entry as (
  insert into inbox (agent_id, conversation_id, run_id, key, request_hash, caller, command)
  select i.agent_id, i.conversation_id, i.run_id, i.key, decode(i.request_hash, 'hex'), i.caller, i.command
    from input i
   where i.found and i.agent_id in (select a.id from agent a)
     and not exists (select from known k where k.ordinal = i.ordinal)
   order by i.ordinal
  on conflict on constraint command_is_accepted_once do nothing
  returning seq, run_id, accepted_at
), run as (
  insert into runs (id, organization_id, agent_id, conversation_id, background, request_config, callback_url)
  select i.run_id, i.organization_id, i.agent_id, i.conversation_id, i.background, i.request_config,
         i.callback_url
    from input i join entry e on e.run_id = i.run_id
)
select i.found, e.seq, e.accepted_at,
       k.seq as known_seq, k.run_id as known_run, k.conversation_id as known_conversation,
       k.accepted_at as known_at, k.same
  from input i
  left join entry e on e.run_id = i.run_id
  left join known k on k.ordinal = i.ordinal
 order by i.ordinal
"""

# The same for one submission, as scalars: that halves what it costs where nobody else is in the batch. It
# holds the conversation's row instead of the agent's, which spares a look-up: the deletion of the agent takes
# that row along, so it waits for whoever came before, and whoever comes after finds no conversation.
_ACCEPT_ONE = """
with conversation as (
  select c.agent_id from conversations c
   where c.id = $2 and c.agent_id = $1 and c.organization_id = $8 and c.deleted_at is null
     for key share
), entry as (
  insert into inbox (agent_id, conversation_id, run_id, key, request_hash, caller, command)
  select agent_id, $2, $3, $4, $5, $6, $7 from conversation
  on conflict on constraint command_is_accepted_once do nothing
  returning seq, accepted_at
), run as (
  insert into runs (id, organization_id, agent_id, conversation_id, background, request_config, callback_url)
  select $3, $8, $1, $2, $9, $10, $11 from entry
)
select seq, accepted_at from entry
"""

_SETTLE = """
select seq, run_id, conversation_id, accepted_at, request_hash = decode($3, 'hex') as same
  from inbox where agent_id = $1 and key = $2
"""

_encoder = msgspec.json.Encoder()


async def accept(conn: Conn, submissions: Sequence[Submission]) -> list[Accepted | StorageError]:
    """Make commands durable in one round trip; return one verdict each, in order. Safe to repeat.

    A verdict is `Accepted`, or the error that refused this submission alone: `NotFoundError`
    (conversation or agent) or `KeyReusedError`. Order of `seq` is order of submission.
    """
    if len(submissions) == 1:
        return [await _accept_one(conn, submissions[0])]
    rows = await conn.fetch(_ACCEPT, _encoder.encode(submissions))
    verdicts: list[Accepted | StorageError] = []
    for item, row in zip(submissions, rows, strict=True):
        verdict = _verdict(item, row)
        verdicts.append(await _settle(conn, item) if verdict is None else verdict)
    return verdicts


def _verdict(item: Submission, row: Row) -> Accepted | StorageError | None:
    """Return what the statement says of a submission; `None` where another one won the race for its key."""
    if row["seq"] is not None:
        return _new(item, row)
    if row["known_seq"] is not None:
        return _known(
            item,
            row["known_seq"],
            row["known_run"],
            row["known_conversation"],
            row["known_at"],
            row["same"],
        )
    return None if row["found"] else _missing(item)


async def _accept_one(conn: Conn, item: Submission) -> Accepted | StorageError:
    row = await conn.fetchrow(
        _ACCEPT_ONE,
        item.agent_id,
        item.conversation_id,
        item.run_id,
        item.key,
        bytes.fromhex(item.request_hash),
        item.caller,
        bytes(item.command),
        item.organization_id,
        item.background,
        _encoder.encode(item.request_config),
        item.callback_url,
    )
    if row is not None:
        return _new(item, row)
    known = await conn.fetchrow(_SETTLE, item.agent_id, item.key, item.request_hash)
    if known is not None:
        return _known(item, *known)
    return _missing(item)


async def _settle(conn: Conn, item: Submission) -> Accepted | StorageError:
    """Read the row of whoever won the race for this key."""
    row = await conn.fetchrow(_SETTLE, item.agent_id, item.key, item.request_hash)
    if row is None:
        return NotFoundError("agent", item.agent_id)
    return _known(item, row["seq"], row["run_id"], row["conversation_id"], row["accepted_at"], row["same"])


def _new(item: Submission, row: Row) -> Accepted:
    return Accepted(
        seq=row["seq"],
        run_id=item.run_id,
        conversation_id=item.conversation_id,
        accepted_at=row["accepted_at"],
    )


def _missing(item: Submission) -> NotFoundError:
    noun = "agent" if item.conversation_id == item.agent_id else "conversation"
    return NotFoundError(noun, item.conversation_id)


def _known(
    item: Submission, seq: int, run_id: str, conversation_id: str, accepted_at: datetime, same: bool
) -> Accepted | StorageError:
    """Return the verdict on a key that is in the inbox: put there by this very submission, or before it."""
    if not same:
        return KeyReusedError(item.key, run_id)
    return Accepted(
        seq=seq,
        run_id=run_id,
        conversation_id=conversation_id,
        accepted_at=accepted_at,
        replayed=run_id != item.run_id,
    )


_PENDING = """
select seq, agent_id, conversation_id, run_id
  from inbox
 where state in ('new', 'applied') and seq > $1
 order by seq
 limit $2
"""


async def pending(conn: Conn, *, after: int = 0, limit: int) -> list[Pending]:
    """Return commands that wait or are under way, oldest first; the poll that finds lost wake-ups.

    `after` is the `seq` of the last one of the page before.
    """
    return [Pending(**dict(row)) for row in await conn.fetch(_PENDING, after, limit)]


_GET = """
select i.state, i.command, r.attempt
  from inbox i join runs r on r.id = i.run_id
 where i.seq = $1 and i.state in ('new', 'applied')
"""


async def get(conn: Conn, seq: int) -> tuple[bytes, int, bool] | None:
    """Return (command, the run's attempt, whether its input is stored) of a pending command, if it is one."""
    row = await conn.fetchrow(_GET, seq)
    return None if row is None else (row["command"], row["attempt"], row["state"] == "applied")


# Not fenced, like an acceptance: it says what a client wants, whoever owns the agent. A checkpoint that is
# ending such a run is waited for, and then there is nothing to mark; it changes no command itself.
_MARK_CANCELLED = """
with held as materialized (  -- first, as a checkpoint does: it would wait for us with other rows of these
  select id from agents where id = $1 for no key update
)
update inbox set command = command || '{"cancelled": true}'
 where seq in (
   select i.seq from held h join inbox i on i.agent_id = h.id
    where i.run_id = any ($2::text[]) and i.state in ('new', 'applied')
    order by i.seq
      for update of i)
"""


async def mark_cancelled(conn: Conn, agent_id: str, run_ids: Sequence[str]) -> None:
    """Note durably that these runs of an agent are to be cancelled, as far as they are not over. Repeatable.

    Their stored command says `cancelled` from here on, to whoever activates the agent.
    """
    await conn.execute(_MARK_CANCELLED, agent_id, list(run_ids))


_RECENT = """
select run_id, conversation_id, key
  from inbox
 where agent_id = $1 and caller = $2 and request_hash = $3 and accepted_at > now() - $4::interval
 order by seq desc
 limit 1
"""


async def recent(
    conn: Conn, *, agent_id: str, caller: str, request_hash: bytes, within: timedelta
) -> tuple[str, str, str] | None:
    """Return (run id, conversation id, key) of the newest command with this caller and hash, if any."""
    row = await conn.fetchrow(_RECENT, agent_id, caller, request_hash, within)
    return None if row is None else (row["run_id"], row["conversation_id"], row["key"])


# Commands end about in the order in which they came, so the oldest are looked at and no index of their end
# is kept at every message. Those that wait for days are few, and are passed over.
_PURGE = """
delete from inbox where seq in (
  select seq
    from (select seq, state, done_at from inbox order by seq limit 2 * $2::int) oldest
   where state in ('done', 'dead') and done_at < now() - $1::interval
   limit $2::int)
"""
PURGED_AT_ONCE = 10_000  # rows that one statement deletes


async def purge(conn: Conn, *, older_than: timedelta) -> int:
    """Forget finished commands and their keys; return how many. Keys are idempotent until then.

    It goes on, statement by statement, until it has caught up with a busy day.
    """
    forgotten = 0
    while True:
        status = await conn.execute(_PURGE, older_than, PURGED_AT_ONCE)
        forgotten += (purged := int(status.rsplit(" ", 1)[-1]))
        if purged < PURGED_AT_ONCE:
            return forgotten
