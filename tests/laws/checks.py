"""What must hold of a database whatever happened to its hosts: each check returns the breaches it finds."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from storage.pool import Conn, Pool, connection
from storage.records import Message, TextPart, ToolCallPart, ToolReturnPart


class Acked(Struct, frozen=True):
    """A message that a client knows to be accepted."""

    text: str
    key: str
    run_id: str


# --- every step is whole ---------------------------------------------------------------------------

# Each query returns the rows that must not be there, as one text each.
_BREACHES = {
    "a command and its run disagree": """
        select i.run_id || ': inbox ' || i.state || ', run ' || r.status
          from inbox i join runs r on r.id = i.run_id
         where r.status <> all (
                 case i.state when 'new' then array['created'] when 'applied' then array['running']
                              when 'dead' then array['failed']
                              else array['completed', 'failed', 'cancelled'] end)
    """,
    "a run has no command": "select id from runs r where not exists (select from inbox where run_id = r.id)",
    "a command's input is stored too often, or not when it should be": """
        select i.run_id || ': inbox ' || i.state || ', ' || coalesce(n.stored, 0) || ' inputs'
          from inbox i
          left join (select run_id, count(*) as stored from messages
                      where role not in ('assistant', 'tool', 'summary', 'approval')
                      group by run_id) n on n.run_id = i.run_id
         where coalesce(n.stored, 0) <>
               case when i.state = 'new' then 0 else jsonb_array_length(i.command -> 'messages') end
    """,
    "an answer is stored too often, or not when it should be": """
        select i.run_id || ': inbox ' || i.state || ', ' || coalesce(n.stored, 0) || ' answers'
          from inbox i
          left join (select run_id, count(*) as stored from messages
                      where role = 'approval' and content @> '[{"type": "approval"}]'
                      group by run_id) n on n.run_id = i.run_id
         where coalesce(n.stored, 0) <>
               case when i.state <> 'new' and jsonb_array_length(i.command -> 'approvals') > 0
                    then 1 else 0 end
    """,
    "an unbegun run has steps": """
        select s.id from steps s join inbox i on i.run_id = s.run_id where i.state = 'new'
    """,
    # A run pays for its summaries too, which are no steps.
    "a run's usage is not that of its steps": """
        select r.id || ': ' || r.usage::text || ', steps ' || coalesce(s.n, 0)
          from runs r
          left join (select run_id, count(*) as n, sum((usage ->> 'prompt')::int) as prompt
                       from steps group by run_id) s on s.run_id = r.id
         where (coalesce((r.usage ->> 'steps')::int, 0), coalesce((r.usage ->> 'prompt')::int, 0))
               is distinct from (coalesce(s.n, 0)::int, coalesce(s.prompt, 0)::int)
           and not ((r.usage ->> 'prompt')::int > s.prompt and (r.usage ->> 'steps')::int = s.n
                    and exists (select from messages m where m.run_id = r.id and m.role = 'summary'))
    """,
    "a message belongs to no step": """
        select m.id from messages m
         where m.step_id is not null and not exists (select from steps s where s.id = m.step_id)
    """,
    # What asks for an approval is a message of its own; with nothing said beside it, the only one.
    "a step has not one assistant message": """
        select s.id || ': ' || s.status || ', ' || coalesce(n.said, 0) || ', ' || coalesce(n.asked, 0)
          from steps s
          left join (select step_id,
                            count(*) filter (where role = 'assistant') as said,
                            count(*) filter (where role = 'approval'
                                             and content @> '[{"type": "tool_call"}]') as asked
                       from messages group by step_id) n on n.step_id = s.id
         where n.said > 1 or n.asked > 1 or coalesce(n.said + n.asked, 0) = 0 and s.status = 'success'
    """,
    # No foreign key says so: see storage/schema.sql.
    "a row outlived what it belongs to": """
        select m.id from messages m
         where not exists (select from conversations c where c.id = m.conversation_id)
         union all
        select s.id from steps s where not exists (select from runs r where r.id = s.run_id)
         union all
        select i.run_id from inbox i where not exists (select from runs r where r.id = i.run_id)
         union all
        select r.id from runs r where not exists (select from agents a where a.id = r.agent_id)
    """,
    # The tables have no checks for these: they would be prepared anew at every message.
    "something is over and has no end, or has one and is not": """
        select id || ': ' || status from runs
         where (completed_at is null) <> (status in ('created', 'running'))
         union all
        select run_id || ': ' || state from inbox where (done_at is null) <> (state in ('new', 'applied'))
    """,
    "a window is no range": """
        select id || ': ' || from_position || ' to ' || end_position from conversations_now
         where from_position < 1 or from_position > end_position
    """,
    "positions have a gap, or the window's end is not theirs": """
        select c.id || ': end ' || c.end_position || ', last ' || l.last || ', rows ' || count(*)
          from conversations_now c join messages m on m.conversation_id = c.id
         cross join lateral (  -- what a fork shares, it has no rows for
               select greatest(max(own.position), c.parent_position) as last,
                      coalesce(c.parent_position, 0) as shared
                 from messages own where own.conversation_id = c.id) l
         group by c.id, c.end_position, l.last, l.shared
        having c.end_position <> l.last + 1 or count(*) <> l.last - l.shared + 1
    """,
}


async def steps_are_whole(pool: Pool) -> list[str]:
    """Return what contradicts that every step committed whole or not at all, at any moment."""
    found: list[str] = []
    async with connection(pool) as conn:
        for what, query in _BREACHES.items():
            found += [f"{what}: {row[0]}" for row in await conn.fetch(query)]
        for conversation_id in await _conversations(conn):
            waiting = [row["id"] for row in await conn.fetch(_WAITING, conversation_id)]
            found += _calls(conversation_id, await history(conn, conversation_id), waiting)
    return found


_WAITING = """
select c ->> 'id' as id from pending_requests p cross join lateral jsonb_array_elements(p.calls) c
 where p.conversation_id = $1
"""


def _calls(conversation_id: str, messages: Iterable[Message], waiting: Iterable[str]) -> list[str]:
    """Return the calls without their one result, and results without a call; what waits has none yet."""
    calls = Counter(p.id for m in messages for p in m.content if isinstance(p, ToolCallPart))
    calls.subtract(p.tool_call_id for m in messages for p in m.content if isinstance(p, ToolReturnPart))
    calls.subtract(waiting)
    return [f"call {call} of {conversation_id} has {1 - n} results" for call, n in calls.items() if n]


async def memory_is_that_of_the_history(pool: Pool) -> list[str]:
    """Return the agents whose block `human` is not what the insertions in their histories make of it."""
    found: list[str] = []
    async with connection(pool) as conn:
        rows = await conn.fetch(
            "select h.agent_id, b.value, b.version from agents_blocks h join blocks b on b.id = h.block_id"
            " where h.label = 'human'"
        )
        for row in rows:
            inserted = _inserted(await history(conn, row["agent_id"]))
            if ("\n".join(inserted), len(inserted)) != (row["value"], row["version"]):
                found.append(f"the memory of {row['agent_id']} is {row['value']!r}, inserted was {inserted}")
    return found


def _inserted(messages: list[Message]) -> list[str]:
    """Return what calls of `memory_insert` with a successful result inserted."""
    done = {
        part.tool_call_id
        for message in messages
        for part in message.content
        if isinstance(part, ToolReturnPart) and part.status == "success"
    }
    return [
        msgspec.json.decode(part.arguments)["new_string"]
        for message in messages
        for part in message.content
        if isinstance(part, ToolCallPart) and part.name == "memory_insert" and part.id in done
    ]


# --- no version is lost ------------------------------------------------------------------------------

_VERSIONS = """
select a.id, a.version,
       (select count(*) from steps s where s.agent_id = a.id)
       + (select count(*) from messages m where m.agent_id = a.id and m.role = 'summary')
       + (select count(*) from messages m
           where m.agent_id = a.id and m.role = 'approval'
             and m.content @> '[{"type": "approval"}]') as steps,
       (select coalesce(sum(b.version), 0)::int from agents_blocks h join blocks b on b.id = h.block_id
         where h.agent_id = a.id)
       - (select count(*) from messages m cross join lateral jsonb_array_elements(m.content) p
           where m.agent_id = a.id and p ->> 'type' = 'tool_return' and p ->> 'status' = 'success'
             and (p ->> 'name' = 'memory_insert'
                  or p ->> 'name' = 'memory' and p ->> 'text' like 'Successfully renamed%')) as edits
  from agents a
"""


async def versions_are_counted(pool: Pool) -> list[str]:
    """Return the agents whose version is not the number of their commits: of two, one was lost.

    A commit is a step, a summary, the results of an answer, or an edit of a block: one that no step of
    the agent made.
    """
    async with connection(pool) as conn:
        rows = await conn.fetch(_VERSIONS)
    return [
        f"agent {row['id']} has version {row['version']} after {commits} commits"
        for row in rows
        if row["version"] != (commits := row["steps"] + row["edits"])
    ]


async def edits_are_kept(pool: Pool, agent_id: str, written: list[str]) -> list[str]:
    """Return what contradicts that the last acknowledged edit of a block, or a later one, is in force."""
    async with connection(pool) as conn:
        row = await conn.fetchrow(
            "select b.value, b.version from agents_blocks h join blocks b on b.id = h.block_id"
            " where h.agent_id = $1 and h.label = 'human'",
            agent_id,
        )
    assert row is not None
    if not written or (row["value"] == written[-1] and row["version"] >= len(written)):
        return []
    return [f"{len(written)} edits were acknowledged; version {row['version']} is {row['value']!r}"]


# --- nothing accepted is lost ------------------------------------------------------------------------


async def all_is_handled(pool: Pool, *, as_: str = "completed") -> list[str]:
    """Return the commands that are not done, and the runs that did not end as wanted."""
    async with connection(pool) as conn:
        rows = await conn.fetch(
            "select i.run_id, i.state, i.attempts, r.status, r.stop_reason, r.error"
            "  from inbox i join runs r on r.id = i.run_id"
            " where i.state <> 'done' or r.status <> $1 order by i.seq",
            as_,
        )
    return [
        f"run {row['run_id']} is {row['status']} ({row['stop_reason']}, {row['error']}),"
        f" its command {row['state']}"
        for row in rows
    ]


async def acked_is_kept(pool: Pool, acked: Mapping[str, list[Acked]]) -> list[str]:
    """Return what contradicts that each acknowledged message is in its history once, in order, answered once.

    `acked` holds the messages of each conversation in the order in which its client sent them. The
    model echoes, and says how many messages it was shown: so each answer proves what came before it.
    """
    found: list[str] = []
    async with connection(pool) as conn:
        for conversation_id, sent in acked.items():
            found += _kept(conversation_id, sent, await history(conn, conversation_id))
    return found


def _kept(conversation_id: str, sent: list[Acked], messages: list[Message]) -> list[str]:
    asked = [text_of(m) for m in messages if m.role == "user"]
    wanted = {item.text for item in sent}
    times = Counter(asked)
    found = [
        f"{item.text!r} was acknowledged and is {times[item.text]} times in {conversation_id}"
        for item in sent
        if times[item.text] != 1
    ]
    order = [text for text in asked if text in wanted]
    found_there = set(order)
    if order != [item.text for item in sent if item.text in found_there]:
        found.append(f"{conversation_id} is out of order: {order}")
    for question, answers in _exchanges(messages):
        expected = f"[{question.position + 1} messages] {text_of(question)}"
        if [answer.strip() for answer in answers] != [expected]:
            found.append(
                f"{text_of(question)!r} of {conversation_id} was answered {answers}, not [{expected!r}]"
            )
    runs = {text_of(m): m.run_id for m in messages if m.role == "user"}
    found += [
        f"{item.text!r} was acknowledged as {item.run_id} and handled as {runs[item.text]}"
        for item in sent
        if item.text in runs and runs[item.text] != item.run_id
    ]
    return found


def _exchanges(messages: list[Message]) -> list[tuple[Message, list[str]]]:
    """Return each user message with the texts that were said before the next one."""
    exchanges: list[tuple[Message, list[str]]] = []
    for message in messages:
        if message.role == "user":
            exchanges.append((message, []))
        elif message.role == "assistant":
            exchanges[-1][1].append(text_of(message))
    return exchanges


# --- reading -------------------------------------------------------------------------------------


async def _conversations(conn: Conn) -> list[str]:
    return [row["id"] for row in await conn.fetch("select id from conversations order by id")]


async def history(conn: Conn, conversation_id: str) -> list[Message]:
    """Return every stored message of a conversation but the system prompt."""
    rows = await conn.fetch(
        "select to_jsonb(m) as m from messages m where conversation_id = $1 and position > 0"
        " order by position",
        conversation_id,
    )
    return [msgspec.json.decode(row["m"], type=Message) for row in rows]


def text_of(message: Message) -> str:
    """Return the text of a message."""
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def said_in(message: Message) -> str:
    """Return the texts and the results of a message."""
    return "".join(part.text for part in message.content if isinstance(part, TextPart | ToolReturnPart))
