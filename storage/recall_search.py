"""The statements that search messages: by their words, few or many of them, or backwards in time."""

RANKED = 200  # messages with the rarer words of a query: the best of them are ranked by the others, too
LATE = 1000  # messages that are read, from the newest, for words that were said often

_WORDS = """
select lexeme/*more*/
  from unnest(to_tsvector('english', $1))
 order by positions[1]
 limit $2
"""
# With the words comes how much the agent's conversations hold, about, which is null where they are many; and
# those of them that have messages whose words are still to be filled in.
_MORE = """,
       (select case when count(*) < $4 then sum(its.end_position) end
          from (select * from conversations_now c where c.agent_id = $3 limit $4) its) as said,
       array(select c.id
               from conversations_now c left join worded_conversations w on w.conversation_id = c.id
              where c.agent_id = $3 and c.end_position > coalesce(w.position, 1)) as behind"""
WORDS = _WORDS.replace("/*more*/", _MORE)
WORDS_EVERYWHERE = _WORDS.replace("/*more*/", "")

# Which of what was said is asked for: among messages, or their words, `m`.
_ASKED = """m.role = any ($2::text[])
     and ($3::timestamptz is null or m.created_at >= $3)
     and ($4::timestamptz is null or m.created_at <= $4)
     and ($5::text is null or m.run_id is distinct from $5)"""
_SAID = f"{_ASKED} and is_said(m.role, m.step_id, m.excluded, m.content)"

_HAS_TEXT = """($8::text is null or exists (
            select from jsonb_array_elements(m.content) part
             where part ->> 'type' = 'text' and part ->> 'text' ilike $8
                or part ->> 'name' = 'send_message'
                   and substring(part ->> 'arguments'
                                 from '"message"\\s*:\\s*"((?:[^"\\\\]|\\\\.)*)') ilike $8))"""

# The words have a table of their own, with all that a search chooses by: of messages only those are read that
# are found. Its index is searched once for each word of the query, together with the agent's id, which is a
# word of each of its messages: so it reads nothing of other agents. As the matches come from a join, the
# planner cannot mistake them for cheap to scan for. The id is compared again because a message of another
# agent may mention it; as an expression that no index knows, or where a few messages are enough all of an
# organisation's would be read in the hope of an early end. Deleted conversations come as an array: as a join
# they mislead the planner.
#
# `ts_rank_cd` is not used: over words joined by "or" it counts occurrences, so three times "coffee"
# beats the one message that holds the rare word of the question. Here each word weighs by how few of
# the hits have it, at no higher cost.
_RANKED = """
with hits as materialized (
  select w.i, m.conversation_id, m.position, m.created_at
    from unnest($8::text[]) with ordinality w (match, i)
    join message_words m on m.words @@ w.match::tsquery
   where /*within*/
), weights as (
  select i, ln(1 + (select count(*) from hits)::float8 / count(*)) as weight from hits group by i
), best as (
  select h.conversation_id, h.position, sum(w.weight) as score
    from hits h join weights w using (i)
   group by h.conversation_id, h.position, h.created_at
   order by score desc, h.created_at desc, h.position desc
   limit $6
)
/*best*/
"""

# The same where much was said. Of each word no more than `$9` messages are read, or a search would cost
# what there is. A word that has more of them is said often: it weighs among the messages that the rarer
# words and all such words together bring. Where those are too few, the newest messages are read for it,
# and those that were found first count.
_RANKED_OF_MANY = """
with hits as materialized (
  select w.i, h.conversation_id, h.position, h.created_at
    from unnest($8::text[]) with ordinality w (match, i)
   cross join lateral (
     select m.conversation_id, m.position, m.created_at
       from message_words m
      where m.words @@ w.match::tsquery and /*within*/
      limit $9) h
), weights as materialized (
  select c.i, w.match::tsquery as match, c.n >= $9 as often,
         ln(1 + (select count(*) from hits)::float8 / c.n) as weight
    from (select i, count(*) as n from hits group by i) c
    join unnest($8::text[]) with ordinality w (match, i) on w.i = c.i
), rare as materialized (
  select h.conversation_id, h.position, sum(w.weight) as score
    from hits h join weights w on w.i = h.i and not w.often
   group by h.conversation_id, h.position, h.created_at
   order by score desc, h.created_at desc, h.position desc
   limit /*ranked*/
), together as materialized (
  select m.conversation_id, m.position
    from message_words m
   where (select count(*) from weights where often) > 1
     and m.words @@ (select string_agg(match::text, ' & ')::tsquery from weights where often)
     and /*within*/
   limit /*ranked*/
), enough as materialized (
  select (select count(*) from rare) + (select count(*) from together) >= $6 as yes
), late as materialized (
  select m.conversation_id, m.position
    from /*newest*/ m
   where not (select yes from enough)
     and m.words @@ any (array(select match from weights where often))
     and /*within*/
), early as materialized (
  select h.conversation_id, h.position
    from hits h join weights w on w.i = h.i and w.often
   where not (select yes from enough)
   order by h.created_at desc, h.position desc
   limit /*ranked*/
), candidates as (
  select conversation_id, position, max(score) as score
    from (select conversation_id, position, score from rare
          union all select conversation_id, position, 0 from together
          union all select conversation_id, position, 0 from late
          union all select conversation_id, position, 0 from early) brought
   group by conversation_id, position
), best as (
  select conversation_id, position, c.score + coalesce((select sum(w.weight) from weights w
                                    where w.often and m.words @@ w.match), 0) as score
    from candidates c join message_words m using (conversation_id, position)
   order by score desc, m.created_at desc, m.position desc
   limit $6
)
/*best*/
"""

_BEST = """select m.id, m.agent_id, m.conversation_id, m.position, m.role, m.created_at, m.content
  from best join messages m using (conversation_id, position)
 order by best.score desc, m.created_at desc, m.position desc"""

_WITHIN = """m./*owner*/ || '' = $1
      and /*asked*/
      and ($7::text is null or m.conversation_id = $7)
      and m.conversation_id <> all (
            array(select c.id from conversations c where c./*owner*/ = $1 and c.deleted_at is not null))"""

# The conversations that went on last, each from its end.
_NEWEST_OF_AGENT = """(
     select n.*
       from (select c.id from conversations_now c
              where c.agent_id = $1 and c.deleted_at is null and ($7::text is null or c.id = $7)
              order by c.last_message_at desc nulls last, c.id limit /*ranked*/) c
      cross join lateral (
        select * from message_words x
         where x.conversation_id = c.id order by x.position desc limit /*late*/) n
      limit /*late*/)"""

_NEWEST_OF_ALL = """(
     select w.*
       from (select x.conversation_id, x.position from messages x
              where x.organization_id = $1 order by x.created_at desc limit /*late*/) x
      cross join lateral (  -- offset 0: by its key, or all that has the words would be looked up
        select * from message_words w
         where w.conversation_id = x.conversation_id and w.position = x.position offset 0) w)"""

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
    filled = template.replace("/*best*/", _BEST)
    filled = filled.replace("/*newest*/", _NEWEST_OF_AGENT if owner == "agent_id" else _NEWEST_OF_ALL)
    filled = filled.replace("/*within*/", _WITHIN).replace("/*owner*/", owner)
    filled = filled.replace("/*ranked*/", str(RANKED)).replace("/*late*/", str(LATE))
    filled = filled.replace("/*asked*/", _ASKED).replace("/*said*/", _SAID)
    return filled.replace("/*has text*/", _HAS_TEXT)


BY_WORDS = _statement(_RANKED, "agent_id")
BY_WORDS_OF_MANY = _statement(_RANKED_OF_MANY, "agent_id")
BY_WORDS_EVERYWHERE = _statement(_RANKED_OF_MANY, "organization_id")
NEWEST = _statement(_BACKWARDS, "agent_id")
NEWEST_EVERYWHERE = _statement(_BACKWARDS_EVERYWHERE, "organization_id")
