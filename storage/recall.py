"""Search over everything that was said in an agent's conversations: by words, by text, by date."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from storage.pool import Conn, Row
from storage.records import Part, Role, TextPart, ToolCallPart

SEARCHED: tuple[Role, ...] = ("user", "assistant", "summary")
QUERY_CHARS = 500  # what of a query counts; nobody looks for more words than that
QUERY_WORDS = 32

_UNSENDABLE = {0: " ", **dict.fromkeys(range(0xD800, 0xE000), " ")}  # NUL and lone surrogates


_content = msgspec.json.Decoder(tuple[Part, ...])


class Hit(Struct, frozen=True, kw_only=True):
    """A message that was found. `rank` counts from 1 among hits by words and is None otherwise."""

    message_id: str
    agent_id: str
    conversation_id: str
    position: int
    role: Role
    created_at: datetime
    content: tuple[Part, ...]
    rank: int | None = None

    @property
    def text(self) -> str:
        """Return the words of the message; parts are lines."""
        return "\n".join(words for part in self.content if (words := _words(part)))


async def search(
    conn: Conn,
    *,
    agent_id: str,
    query: str | None = None,
    roles: Sequence[Role] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 5,
    but_run_id: str | None = None,
    conversation_id: str | None = None,
) -> list[Hit]:
    """Return up to `limit` messages of one agent, or of one conversation of it, the best or the newest first.

    A message matches when it shares any word with `query`, stemmed in English; rare words count more
    than frequent ones, and of equals the newer is better. A query without such words (stop words,
    punctuation), or whose words nobody used, is looked for as it stands, in any case and also within
    words: that is how scripts without spaces are found. Without a query the newest messages come.

    What an agent says by calling `send_message` counts as its words. Tool rows, heartbeats, system
    messages, excluded messages, deleted conversations and assistant messages that themselves called
    `conversation_search` are left out, and so is the run `but_run_id` that asks.
    `query` is data: no operator in it has a meaning. Both ends of the time span are included.
    """
    wanted = [role for role in (roles or SEARCHED) if role in SEARCHED]
    filters = (agent_id, wanted, start, end, but_run_id, limit, conversation_id)
    text = _sought(query)
    matches = [f"{_lexeme(agent_id)} & {match}" for match in await _matches(conn, text)]
    if matches and (rows := await conn.fetch(_BY_WORDS, *filters, matches)):
        return [_hit(row, rank) for rank, row in enumerate(rows, start=1)]
    rows = await conn.fetch(_NEWEST, *filters, f"%{_literal(text)}%" if text else None)
    return [_hit(row) for row in rows]


async def search_everywhere(
    conn: Conn,
    *,
    organization_id: str,
    query: str,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 5,
) -> list[Hit]:
    """Return up to `limit` messages of all agents of an organisation that match `query`, as `search` does.

    Costs what the organisation's messages with these words cost: it is for people who look, not for turns.
    """
    filters = (organization_id, SEARCHED, start, end, None, limit, None)
    text = _sought(query)
    matches = await _matches(conn, text)
    if matches and (rows := await conn.fetch(_BY_WORDS_EVERYWHERE, *filters, matches)):
        return [_hit(row, rank) for rank, row in enumerate(rows, start=1)]
    rows = await conn.fetch(_NEWEST_EVERYWHERE, *filters, f"%{_literal(text)}%" if text else None)
    return [_hit(row) for row in rows]


def _sought(query: str | None) -> str:
    return (query or "")[:QUERY_CHARS].translate(_UNSENDABLE).strip()


async def _matches(conn: Conn, text: str) -> list[str]:
    """Return the words to look for, each as an operand of a tsquery."""
    rows = await conn.fetch(_WORDS, text, QUERY_WORDS) if text else []
    return [_lexeme(row["lexeme"]) for row in rows]


_WORDS = "select lexeme from unnest(to_tsvector('english', $1)) order by positions[1] limit $2"

# What counts as said, among the messages `m`.
_SAID = """m.role = any ($2::text[])
     and not m.excluded
     and ($3::timestamptz is null or m.created_at >= $3)
     and ($4::timestamptz is null or m.created_at <= $4)
     and ($5::text is null or m.run_id is distinct from $5)
     and (m.role <> 'user' or m.step_id is null)
     and not m.content @> '[{"type": "tool_call", "name": "conversation_search"}]'"""

_HAS_TEXT = """($8::text is null or exists (
            select from jsonb_array_elements(m.content) part
             where part ->> 'type' = 'text' and part ->> 'text' ilike $8
                or part ->> 'name' = 'send_message'
                   and substring(part ->> 'arguments'
                                 from '"message"\\s*:\\s*"((?:[^"\\\\]|\\\\.)*)') ilike $8))"""

# The index `messages_by_words` is searched once for each word of the query, together with the agent's
# id, which is a word of each of its messages: so it reads nothing of other agents. As the matches come
# from a join, the planner cannot mistake them for cheap to scan for. The id is compared again because a
# message of another agent may mention it. Deleted conversations come as an array: as a join they
# mislead the planner.
#
# `ts_rank_cd` is not used: over words joined by "or" it counts occurrences, so three times "coffee"
# beats the one message that holds the rare word of the question. Here each word weighs by how few of
# the hits have it, at no higher cost.
_RANKED = """
with hits as materialized (
  select w.i, m.id, m.created_at, m.position
    from unnest($8::text[]) with ordinality w (match, i)
    join messages m on m.search @@ w.match::tsquery
   where m./*owner*/ = $1
     and /*said*/
     and ($7::text is null or m.conversation_id = $7)
     and m.conversation_id <> all (
           array(select c.id from conversations c where c./*owner*/ = $1 and c.deleted_at is not null))
), weights as (
  select i, ln(1 + (select count(*) from hits)::float8 / count(*)) as weight from hits group by i
), best as (
  select h.id, sum(w.weight) as score
    from hits h join weights w using (i)
   group by h.id, h.created_at, h.position
   order by score desc, h.created_at desc, h.position desc
   limit $6
)
select m.id, m.agent_id, m.conversation_id, m.position, m.role, m.created_at, m.content
  from best join messages m on m.id = best.id
 order by best.score desc, m.created_at desc, m.position desc
"""

# Each conversation is read backwards along its positions until enough is found, so that listing the
# newest costs the same however long the history is. A text that nobody ever wrote reads all of it.
_BACKWARDS = """
select found.*
  from conversations c
 cross join lateral (
   select m.id, m.agent_id, m.conversation_id, m.position, m.role, m.created_at, m.content
     from messages m
    where m.conversation_id = c.id
      and /*said*/
      and /*has text*/
    order by m.position desc
    limit $6) found
 where c.agent_id = $1 and c.deleted_at is null and ($7::text is null or c.id = $7)
 order by found.created_at desc, found.position desc
 limit $6
"""

# The organisation's messages are read backwards in time until enough is found.
_BACKWARDS_EVERYWHERE = """
select m.id, m.agent_id, m.conversation_id, m.position, m.role, m.created_at, m.content
  from messages m
 where m.organization_id = $1
   and /*said*/
   and ($7::text is null or m.conversation_id = $7)
   and /*has text*/
   and m.conversation_id <> all (
         array(select c.id from conversations c where c.organization_id = $1 and c.deleted_at is not null))
 order by m.created_at desc, m.position desc
 limit $6
"""


def _statement(template: str, owner: str) -> str:
    """Return a statement with its parts filled in. All of them are constants of this module."""
    filled = template.replace("/*said*/", _SAID).replace("/*has text*/", _HAS_TEXT)
    return filled.replace("/*owner*/", owner)


_BY_WORDS = _statement(_RANKED, "agent_id")
_BY_WORDS_EVERYWHERE = _statement(_RANKED, "organization_id")
_NEWEST = _statement(_BACKWARDS, "agent_id")
_NEWEST_EVERYWHERE = _statement(_BACKWARDS_EVERYWHERE, "organization_id")


class _Spoken(Struct, frozen=True):
    """The arguments of a call by which an agent speaks."""

    message: str = ""


def _words(part: Part) -> str:
    match part:
        case TextPart(text):
            return text
        case ToolCallPart(name="send_message", arguments=arguments):
            try:
                return msgspec.json.decode(arguments, type=_Spoken).message
            except msgspec.DecodeError:
                return ""
        case _:
            return ""


def _lexeme(word: str) -> str:
    """Return `word` as one operand of a tsquery, whatever characters it has."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _literal(text: str) -> str:
    """Return `text` as a pattern of `like` that means itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _hit(row: Row, rank: int | None = None) -> Hit:
    return Hit(
        message_id=row["id"],
        agent_id=row["agent_id"],
        conversation_id=row["conversation_id"],
        position=row["position"],
        role=row["role"],
        created_at=row["created_at"],
        content=_content.decode(row["content"]),
        rank=rank,
    )
