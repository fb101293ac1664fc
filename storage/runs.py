"""Runs as they are stored: one by id, lists, and the run that an otid or a key stands for."""

from collections.abc import Sequence

import msgspec

from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import Run, RunError, RunStatus, StopReason, Usage

ACTIVE = ("created", "running")

_READ = """
select id, organization_id, agent_id, conversation_id, status, created_at, background, stop_reason,
       completed_at, usage, request_config, metadata, error, attempt, ttft_ns, total_duration_ns,
       callback_url
  from runs
"""

_usage = msgspec.json.Decoder(Usage)
_error = msgspec.json.Decoder(RunError)
_object = msgspec.json.Decoder()

_GET = _READ + " where id = $1 and organization_id = $2"


async def get(conn: Conn, run_id: str, *, organization_id: str) -> Run:
    """Return one run as of its last checkpoint.

    Raises:
        NotFoundError: There is none.
    """
    row = await conn.fetchrow(_GET, run_id, organization_id)
    if row is None:
        raise NotFoundError("run", run_id)
    return _run(row)


_BY_AGE = Order(
    columns=("created_at", "id"),
    cursor="select created_at, id from runs where id = $1 and organization_id = $2",
    noun="run",
)


async def list_page(
    conn: Conn,
    page: Page,
    *,
    organization_id: str,
    agent_ids: Sequence[str] | None = None,
    conversation_id: str | None = None,
    statuses: Sequence[str] | None = None,
    background: bool | None = None,
    stop_reason: str | None = None,
) -> list[Run]:
    """Return a page of runs; every filter that is given must hold.

    Raises:
        NotFoundError: The cursor names no run.
    """
    select = Select(_READ).where("organization_id = {}", organization_id)
    if agent_ids is not None and len(agent_ids) == 1:
        select.where("agent_id = {}", agent_ids[0])
    elif agent_ids is not None:
        select.where("agent_id = any ({}::text[])", list(agent_ids))
    if conversation_id is not None:
        # The agent is named as well because its index orders runs by age; the conversation has none.
        select.where(
            "conversation_id = {} and agent_id = (select agent_id from conversations where id = {})",
            conversation_id,
            conversation_id,
        )
    if statuses is not None:
        select.where("status = any ({}::text[])", list(statuses))
        if set(statuses) <= set(ACTIVE):
            # Unfinished runs are few and found by their pending commands, never by a scan of all runs.
            select.where("id in (select run_id from inbox where state in ('new', 'applied'))")
    if background is not None:
        select.where("background = {}", background)
    if stop_reason is not None:
        select.where("stop_reason = {}", stop_reason)
    return [_run(row) for row in await select.page(conn, page, order=_BY_AGE, scope=organization_id)]


# The commands of an agent are kept 24 h after their end, so this reads few rows by one index.
_BY_OTID = """
select run_id
  from inbox
 where agent_id = $1 and conversation_id = $2 and command @> $3::jsonb
 order by seq desc
 limit 1
"""


async def find_by_otid(conn: Conn, *, agent_id: str, conversation_id: str, otid: str) -> str | None:
    """Return the id of the newest run whose request had a message with this otid, if any is remembered."""
    wanted = msgspec.json.encode({"messages": [{"otid": otid}]})
    return await conn.fetchval(_BY_OTID, agent_id, conversation_id, wanted)


_BY_KEY = "select run_id from inbox where agent_id = $1 and key = $2"


async def find_by_key(conn: Conn, *, agent_id: str, key: str) -> str | None:
    """Return the id of the run that this idempotency key names, if it is remembered."""
    return await conn.fetchval(_BY_KEY, agent_id, key)


_END = "select status, stop_reason, usage, error from runs where id = $1 and completed_at is not null"


async def end_of(conn: Conn, run_id: str) -> tuple[RunStatus, StopReason, Usage, RunError | None] | None:
    """Return how a run ended, if it is over."""
    row = await conn.fetchrow(_END, run_id)
    if row is None:
        return None
    return row["status"], row["stop_reason"] or "error", _usage.decode(row["usage"]), _failure(row)


def _failure(row: Row) -> RunError | None:
    error = row["error"]
    return None if error is None or error == b"null" else _error.decode(error)


def _run(row: Row) -> Run:
    return Run(
        id=row["id"],
        organization_id=row["organization_id"],
        agent_id=row["agent_id"],
        conversation_id=row["conversation_id"],
        status=row["status"],
        created_at=row["created_at"],
        background=row["background"],
        stop_reason=row["stop_reason"],
        completed_at=row["completed_at"],
        usage=_usage.decode(row["usage"]),
        request_config=_object.decode(row["request_config"]),
        metadata=_object.decode(row["metadata"]),
        error=_failure(row),
        attempt=row["attempt"],
        ttft_ns=row["ttft_ns"],
        total_duration_ns=row["total_duration_ns"],
        callback_url=row["callback_url"],
    )
