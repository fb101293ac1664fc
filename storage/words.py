"""Words of messages: filled in for many at once after their commit, and before a search that needs them."""

from collections.abc import Sequence

from storage.pool import Conn

AT_ONCE = 500  # messages whose words one statement fills in
CONVERSATIONS = 100  # of which it does

_FILL = "select fill_words($1, $2)"


async def fill(conn: Conn, conversation_ids: Sequence[str]) -> None:
    """Fill in the words of all messages of these conversations that were committed when this was called.

    Not inside a transaction that goes on: others who fill would wait for its end. Cancelling loses nothing:
    what is filled in is noted with it, and the next call goes on from there.
    """
    for first in range(0, len(conversation_ids), CONVERSATIONS):
        left = conversation_ids[first : first + CONVERSATIONS]
        while left:
            left = await fill_some(conn, left)


async def fill_some(conn: Conn, conversation_ids: Sequence[str], *, at_once: int = AT_ONCE) -> list[str]:
    """Fill in words by one statement, which is a transaction; return the conversations that may have more.

    It is for `at_once` messages at most, for an equal share of each conversation: there are no more of these.
    """
    rows = await conn.fetch(_FILL, list(conversation_ids), at_once // len(conversation_ids))
    return [row[0] for row in rows]


# What of the database lacks words, along the conversations' key, so that no statement reads them all.
_BEHIND = """
with looked as materialized (
  select c.id from conversations c where c.id > $1 order by c.id limit $2
)
select max(l.id) as last, array_agg(l.id) filter (where (
         select m.position from messages m
          where m.conversation_id = l.id and m.position >= coalesce(w.position, 1)
          order by m.position limit 1) is not null) as behind
  from looked l left join worded_conversations w on w.conversation_id = l.id
"""
LOOKED_AT = 2_000


async def behind(conn: Conn, after: str = "") -> tuple[list[str], str | None]:
    """Return which of the next conversations after an id have messages without words, and where to go on.

    The second value is None where no conversation is left. Nothing is locked.
    """
    row = await conn.fetchrow(_BEHIND, after, LOOKED_AT)
    assert row is not None, "an aggregate has a row"
    return list(row["behind"] or ()), row["last"]


_LOCK = "select pg_advisory_xact_lock_shared(hashtext('wakeful.words'))"
_FORGET = (
    "delete from message_words where conversation_id = any ($1::text[])",
    "delete from worded_conversations where conversation_id = any ($1::text[])",
)


async def forget(conn: Conn, conversation_ids: Sequence[str]) -> None:
    """Delete the words of conversations that this transaction deletes, as the last thing that it does.

    Nobody fills in words from here to its end: who did before has committed them, and they are deleted; who
    does afterwards finds no messages.
    """
    await conn.execute(_LOCK)
    for statement in _FORGET:
        await conn.execute(statement, list(conversation_ids))
