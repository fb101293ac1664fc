"""Forks: conversations that begin with the messages of another one, and share its rows while these stay."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from storage.errors import NotFoundError
from storage.pool import Conn
from storage.records import Conversation, Part


class Stretch(Struct, frozen=True):
    """The messages of a conversation at the positions `(low, high]`, all of which are after its prompt."""

    conversation_id: str
    low: int
    high: int


# Deleted ancestors count: their messages stay stored, and a fork keeps what it began with.
_ANCESTORS = """
with recursive line as (
  select p.id, p.parent_id, p.parent_position, coalesce(p.parent_position, 0) as low, $2::bigint as high
    from conversations p where p.id = $1
  union all
  select p.id, p.parent_id, p.parent_position, coalesce(p.parent_position, 0),
         least(line.high, line.parent_position)
    from line join conversations p on p.id = line.parent_id
)
select id, low, high from line where low < high
"""


async def ancestors(conn: Conn, conversation: Conversation) -> tuple[Stretch, ...]:
    """Return where those messages of a fork are that are not its own; of others this reads nothing."""
    if conversation.parent_id is None:
        return ()
    rows = await conn.fetch(_ANCESTORS, conversation.parent_id, conversation.parent_position)
    return tuple(Stretch(row["id"], row["low"], row["high"]) for row in rows)


def columns(stretches: Sequence[Stretch]) -> tuple[list[str], list[int], list[int]]:
    """Return stretches as the three arrays that statements unnest."""
    return (
        [s.conversation_id for s in stretches],
        [s.low for s in stretches],
        [s.high for s in stretches],
    )


class Point(Struct, frozen=True):
    """Where a fork leaves its parent: after `position`. `summary_id` is a summary it needs a copy of."""

    position: int
    summary_id: str | None = None


_POSITION = """
select m.position
  from unnest($2::text[], $3::bigint[], $4::bigint[]) s (id, low, high)
  join messages m on m.conversation_id = s.id and m.position > s.low and m.position <= s.high
 where m.id = $1
"""
_SUMMARY = """
select m.id
  from unnest($2::text[], $3::bigint[], $4::bigint[]) s (id, low, high)
  join messages m on m.conversation_id = s.id and m.position > s.low and m.position <= s.high
 where m.position = $1
"""


async def point_of(conn: Conn, conversation: Conversation, message_id: str | None) -> Point:
    """Return where a fork of `conversation` leaves it: after the message named, or after the last one.

    A summary that was written after that point stands for messages before it nevertheless.

    Raises:
        NotFoundError: Models are not shown the named message there.
    """
    last = conversation.end_position - 1
    if message_id is None:
        return Point(last)
    own = Stretch(conversation.id, conversation.parent_position or 0, last)
    stretches = columns((own, *await ancestors(conn, conversation)))
    position = await conn.fetchval(_POSITION, message_id, *stretches)
    if position is None or position < conversation.from_position:
        raise NotFoundError("message", message_id)
    summary = conversation.summary_position
    if summary is None or summary <= position:
        return Point(position)
    return Point(position, await conn.fetchval(_SUMMARY, summary, *stretches))


# The rows of the window are shared; only a summary from beyond the point is copied. It is found once when
# people search: the copy has no words, as it stands before those that are still to be filled in.
_FORK = """
with parent as (
  select * from conversations_now where id = $2 and agent_id = $1 and deleted_at is null
), fork as (
  insert into conversations (id, organization_id, agent_id, parent_id, parent_position, from_position,
                             end_position, summary_position, summary, description, model, model_settings,
                             last_message_at)
  select $3, organization_id, agent_id, id, $4::bigint, least(from_position, $4::bigint + 1),
         case when $8::text is null then $4::bigint + 1 else $4::bigint + 2 end,
         case when $8::text is null then summary_position else $4::bigint + 1 end,
         summary, description, model, model_settings, last_message_at
    from parent
  returning id, organization_id, agent_id, end_position
), worded as (
  insert into worded_conversations (conversation_id, position) select id, end_position from fork
), summary as (
  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens,
                        created_at)
  select $9, f.id, $4::bigint + 1, f.agent_id, f.organization_id, m.role, m.content, m.tokens, m.created_at
    from fork f join messages m on m.id = $8::text
)
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens)
select $5, id, 0, agent_id, organization_id, 'system', $6, $7 from fork
returning conversation_id
"""


async def create(
    conn: Conn,
    parent: Conversation,
    point: Point,
    *,
    conversation_id: str,
    system_id: str,
    system: tuple[Part, ...],
    system_tokens: int,
    summary_id: str,
) -> None:
    """Open a fork of `parent` with its own system message; a summary that it copies gets `summary_id`.

    Raises:
        NotFoundError: The parent is closed.
    """
    row = await conn.fetchrow(
        _FORK,
        parent.agent_id,
        parent.id,
        conversation_id,
        point.position,
        system_id,
        msgspec.json.encode(system),
        system_tokens,
        point.summary_id,
        summary_id,
    )
    if row is None:
        raise NotFoundError("conversation", parent.id)


# A fork that moves gets its copies in the same statement, so that its own forks find them there. A copy has
# no words, as above, so that people who search find it once, and no run, which would list it twice. Forks are
# found by their agent, which is their parent's: nothing is indexed by the parent.
_PART = """
with fork as (
  update conversations c set parent_position = $2
    from (select id, parent_position as high
            from conversations
           where agent_id = (select agent_id from conversations where id = $1)
             and parent_id = $1 and parent_position > $2
           order by id
             for update) shares
   where c.id = shares.id
  returning c.id, shares.high
)
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name,
                      sender_id, step_id, tokens, excluded, interrupted, created_at)
select 'message-' || gen_random_uuid(), f.id, m.position, m.agent_id, m.organization_id, m.role, m.content,
       m.name, m.sender_id, m.step_id, m.tokens, m.excluded, m.interrupted, m.created_at
  from fork f
  join messages m on m.conversation_id = $1 and m.position > $2 and m.position <= f.high
"""


async def part(conn: Conn, conversation_id: str, position: int) -> None:
    """Give forks of a conversation copies of its own messages after `position`, as far as they share them.

    Their copies have other ids. Forks of these forks, deleted ones included, read the copies from then on.
    """
    await conn.execute(_PART, conversation_id, position)


# As above, of one fork alone, which others that share the same rows do not notice.
_OWN = """
with fork as (
  update conversations set parent_position = $2 where id = $1 and parent_position > $2
  returning id
)
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, name,
                      sender_id, step_id, tokens, excluded, interrupted, created_at)
select 'message-' || gen_random_uuid(), f.id, m.position, m.agent_id, m.organization_id, m.role, m.content,
       m.name, m.sender_id, m.step_id, m.tokens, m.excluded, m.interrupted, m.created_at
  from fork f
 cross join unnest($3::text[], $4::bigint[], $5::bigint[]) s (id, low, high)
  join messages m on m.conversation_id = s.id and m.position > greatest(s.low, $2) and m.position <= s.high
"""


async def own(conn: Conn, fork: Conversation, position: int) -> None:
    """Give a fork copies, with other ids, of what it shares after `position`. Without any it does nothing."""
    shared = await ancestors(conn, fork)
    await conn.execute(_OWN, fork.id, position, *columns(shared))
