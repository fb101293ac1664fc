"""Requests that wait for an answer from outside: calls to approve, and calls that a client runs."""

from collections.abc import Sequence

import msgspec

from storage.pending_records import ClientTool, PendingCall, PendingRequest
from storage.pool import Conn, Row

_calls = msgspec.json.Decoder(tuple[PendingCall, ...])
_parked = msgspec.json.Decoder(tuple[str, ...])
_client_tools = msgspec.json.Decoder(tuple[ClientTool, ...])

# The database's clock says when a request expires, as it will say that it has.
_PUT = """
insert into pending_requests (conversation_id, agent_id, organization_id, run_id, step_id, message_id,
                              position, calls, parked, client_tools, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::jsonb, $10::jsonb, $11, now() + make_interval(secs => $12))
"""


async def put(conn: Conn, request: PendingRequest) -> None:
    """Store what a conversation waits for from now on, inside the transaction of its step."""
    await conn.execute(
        _PUT,
        request.conversation_id,
        request.agent_id,
        request.organization_id,
        request.run_id,
        request.step_id,
        request.message_id,
        request.position,
        msgspec.json.encode(request.calls),
        msgspec.json.encode(request.parked),
        msgspec.json.encode(request.client_tools),
        request.created_at,
        (request.expires_at - request.created_at).total_seconds(),
    )


_CLEAR = "delete from pending_requests where conversation_id = $1"


async def clear(conn: Conn, conversation_id: str) -> None:
    """Forget what a conversation waits for: it is answered, or nobody may answer it any more."""
    await conn.execute(_CLEAR, conversation_id)


_READ = """
select p.conversation_id, p.agent_id, p.organization_id, p.run_id, p.step_id, p.message_id, p.position,
       p.calls, p.parked, p.client_tools, p.created_at, p.expires_at
  from pending_requests p
"""

_OF_AGENT = _READ + " where p.agent_id = $1 order by p.created_at, p.conversation_id"


async def of_agent(conn: Conn, agent_id: str) -> list[PendingRequest]:
    """Return what the conversations of an agent wait for, oldest first."""
    return [_request(row) for row in await conn.fetch(_OF_AGENT, agent_id)]


_OF_CONVERSATIONS = _READ + " where p.conversation_id = any ($1::text[])"


async def of_conversations(conn: Conn, conversation_ids: Sequence[str]) -> dict[str, PendingRequest]:
    """Return what these conversations wait for, by conversation; those that wait for nothing are left out."""
    rows = await conn.fetch(_OF_CONVERSATIONS, list(conversation_ids))
    return {row["conversation_id"]: _request(row) for row in rows}


# Few rows: only what waits is here. Ids of calls are the models', and two may be the same.
_OF_CALL = _READ + " where p.organization_id = $1 and p.calls @> $2::jsonb order by p.created_at limit $3"


async def of_call(
    conn: Conn, call_id: str, *, organization_id: str, limit: int = 100
) -> list[PendingRequest]:
    """Return the requests of an organisation in which a call with this id waits, oldest first."""
    wanted = msgspec.json.encode([{"id": call_id}])
    return [_request(row) for row in await conn.fetch(_OF_CALL, organization_id, wanted, limit)]


_EXPIRED = _READ + " where p.expires_at <= now() order by p.expires_at limit $1"


async def expired(conn: Conn, *, limit: int) -> list[PendingRequest]:
    """Return requests that nobody answered in time, by the database's clock, the longest expired first."""
    return [_request(row) for row in await conn.fetch(_EXPIRED, limit)]


_WAITING = "select conversation_id, agent_id, message_id from pending_requests"


async def waiting(conn: Conn) -> dict[str, tuple[str, str]]:
    """Return (agent, message that asks) of every conversation that waits; for a host that begins."""
    rows = await conn.fetch(_WAITING)
    return {row["conversation_id"]: (row["agent_id"], row["message_id"]) for row in rows}


def _request(row: Row) -> PendingRequest:
    return PendingRequest(
        conversation_id=row["conversation_id"],
        agent_id=row["agent_id"],
        organization_id=row["organization_id"],
        run_id=row["run_id"],
        step_id=row["step_id"],
        message_id=row["message_id"],
        position=row["position"],
        calls=_calls.decode(row["calls"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        parked=_parked.decode(row["parked"]),
        client_tools=_client_tools.decode(row["client_tools"]),
    )
