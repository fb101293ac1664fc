"""How a conversation stands for a client that may say again what it said: what it heard, and waits for."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from storage import conversations, forks
from storage.pool import Conn
from storage.records import Conversation

RECENT = 1000  # messages; what a client sends again that is older than these counts as new

_decode_runs = msgspec.json.Decoder(dict[str, str]).decode


class Standing(Struct, frozen=True, kw_only=True):
    """An open conversation, and what of a request it knows.

    `heard` are the runs of those messages that it has, or has accepted, by their otid. `run_id` is the run
    that the request's key names, if it is remembered. `waits` says that an answer from outside is awaited.
    """

    conversation: Conversation
    heard: dict[str, str]
    run_id: str | None
    waits: bool


# One round trip in place of four. Each part reads few rows by one index: the conversation, its messages of
# these otids (`+ 0`: whose positions are looked at after that, never instead), what waits of an agent's
# commands, the command of a key, and the one request of a conversation.
_PARTS = """,
       (select jsonb_object_agg(h.otid, h.run_id)
          from (select m.otid, m.run_id
                  from messages m
                 where m.conversation_id = c.id and m.otid = any ($3::text[]) and m.run_id is not null
                   and m.position + 0 >= c.end_position - $5
                union all
                select e ->> 'otid', x.run_id
                  from inbox x, jsonb_array_elements(x.command -> 'messages') e
                 where x.agent_id = c.agent_id and x.conversation_id = c.id
                   and x.state in ('new', 'applied') and e ->> 'otid' = any ($3::text[])) h) as heard,
       (select i.run_id from inbox i where i.agent_id = c.agent_id and i.key = $4) as accepted,
       exists (select from pending_requests p where p.conversation_id = c.id) as waits
  from conversations_now c
 where c.id = $1 and c.organization_id = $2 and c.deleted_at is null
"""

_OF = f"{conversations.SELECT}{_PARTS}"


async def of(
    conn: Conn, conversation_id: str, *, organization_id: str, otids: Sequence[str], key: str | None = None
) -> Standing | None:
    """Return how an open conversation stands, None where there is none.

    Of its messages only those of the last `RECENT` count, and those that wait to be handled.
    """
    row = await conn.fetchrow(_OF, conversation_id, organization_id, list(otids), key, RECENT)
    if row is None:
        return None
    return Standing(
        conversation=conversations.of_row(row),
        heard={} if row["heard"] is None else _decode_runs(row["heard"]),
        run_id=row["accepted"],
        waits=row["waits"],
    )


# Along the positions: the other index is of all otids that there ever were. `offset 0` keeps it from that.
_HEARD = """
select m.otid, m.run_id
  from (select otid, run_id from messages
         where conversation_id = $1 and position >= $2
         order by position offset 0) m
 where m.otid is not null and m.run_id is not null
"""


async def heard(conn: Conn, conversation_id: str, *, since: int) -> list[tuple[str, str]]:
    """Return (otid, run id) of a conversation's messages from the position `since` on, oldest first.

    Messages without either are left out, and so are those of conversations that it was forked from.
    """
    return [(row["otid"], row["run_id"]) for row in await conn.fetch(_HEARD, conversation_id, since)]


# As in `_PARTS`: by otid.
_INHERITED = """
select m.otid, m.run_id
  from unnest($1::text[], $2::bigint[], $3::bigint[]) s (id, low, high)
  join messages m on m.conversation_id = s.id
 where m.otid = any ($4::text[]) and m.run_id is not null
   and m.position + 0 > s.low and m.position + 0 <= s.high
"""


async def inherited(conn: Conn, conversation: Conversation, *, otids: Sequence[str]) -> dict[str, str]:
    """Return which of these otids have messages that a fork began with, each with the run it belongs to."""
    ancestors = await forks.ancestors(conn, conversation)
    if not ancestors:
        return {}
    rows = await conn.fetch(_INHERITED, *forks.columns(ancestors), list(otids))
    return {row["otid"]: row["run_id"] for row in rows}
