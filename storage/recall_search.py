"""The statements that search messages: by their words, few or many of them, or backwards in time."""

RANKED = 200  # messages with the rarer words of a query: the best of them are ranked by the others, too
LATE = 1000  # messages that are read, from the newest, for words that were said often

# With the words comes how much the agent's conversations hold, about; null where they are many.
WORDS = """
select lexeme, (select case when count(*) < $4 then sum(its.end_position) end
                  from (select * from conversations c where c.agent_id = $3 limit $4) its) as said
  from unnest(to_tsvector('english', $1))
 order by positions[1]
 limit $2
"""

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
# message of another agent may mention it; as an expression that no index knows, or where a few messages are
# enough all of an organisation's would be read in the hope of an early end. Deleted conversations come as an
# array: as a join they mislead the planner.
#
# `ts_rank_cd` is not used: over words joined by "or" it counts occurrences, so three times "coffee"
# beats the one message that holds the rare word of the question. Here each word weighs by how few of
# the hits have it, at no higher cost.
_RANKED = """
with hits as materialized (
  select w.i, m.id, m.created_at, m.position
    from unnest($8::text[]) with ordinality w (match, i)
    join messages m on m.search @@ w.match::tsquery
   where /*within*/
), weights as (
  select i, ln(1 + (select count(*) from hits)::float8 / count(*)) as weight from hits group by i
), best as (
  select h.id, sum(w.weight) as score
    from hits h join weights w using (i)
   group by h.id, h.created_at, h.position
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
  select w.i, h.id, h.created_at, h.position
    from unnest($8::text[]) with ordinality w (match, i)
   cross join lateral (
     select m.id, m.created_at, m.position
       from messages m
      where m.search @@ w.match::tsquery and /*within*/
      limit $9) h
), weights as materialized (
  select c.i, w.match::tsquery as match, c.n >= $9 as often,
         ln(1 + (select count(*) from hits)::float8 / c.n) as weight
    from (select i, count(*) as n from hits group by i) c
    join unnest($8::text[]) with ordinality w (match, i) on w.i = c.i
), rare as materialized (
  select h.id, h.created_at, h.position, sum(w.weight) as score
    from hits h join weights w on w.i = h.i and not w.often
   group by h.id, h.created_at, h.position
   order by score desc, h.created_at desc, h.position desc
   limit /*ranked*/
), together as materialized (
  select m.id, m.created_at, m.position
    from messages m
   where (select count(*) from weights where often) > 1
     and m.search @@ (select string_agg(match::text, ' & ')::tsquery from weights where often)
     and /*within*/
   limit /*ranked*/
), enough as materialized (
  select (select count(*) from rare) + (select count(*) from together) >= $6 as yes
), late as materialized (
  select m.id, m.created_at, m.position
    from /*newest*/ m
   where not (select yes from enough)
     and m.search @@ any (array(select match from weights where often))
     and /*within*/
), early as materialized (
  select h.id, h.created_at, h.position
    from hits h join weights w on w.i = h.i and w.often
   where not (select yes from enough)
   order by h.created_at desc, h.position desc
   limit /*ranked*/
), candidates as (
  select id, max(score) as score
    from (select id, score from rare
          union all select id, 0 from together
          union all select id, 0 from late
          union all select id, 0 from early) brought
   group by id
), best as (
  select c.id, c.score + coalesce((select sum(w.weight) from weights w
                                    where w.often and m.search @@ w.match), 0) as score
    from candidates c join messages m on m.id = c.id
   order by score desc, m.created_at desc, m.position desc
   limit $6
)
/*best*/
"""

_BEST = """select m.id, m.agent_id, m.conversation_id, m.position, m.role, m.created_at, m.content
  from best join messages m on m.id = best.id
 order by best.score desc, m.created_at desc, m.position desc"""

_WITHIN = """m./*owner*/ || '' = $1
      and /*said*/
      and ($7::text is null or m.conversation_id = $7)
      and m.conversation_id <> all (
            array(select c.id from conversations c where c./*owner*/ = $1 and c.deleted_at is not null))"""

# The conversations that went on last, each from its end.
_NEWEST_OF_AGENT = """(
     select n.*
       from (select c.id from conversations c
              where c.agent_id = $1 and c.deleted_at is null and ($7::text is null or c.id = $7)
              order by c.last_message_at desc nulls last, c.id limit /*ranked*/) c
      cross join lateral (
        select * from messages x where x.conversation_id = c.id order by x.position desc limit /*late*/) n
      limit /*late*/)"""

_NEWEST_OF_ALL = """(
     select * from messages x where x.organization_id = $1 order by x.created_at desc limit /*late*/)"""

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
    return filled.replace("/*said*/", _SAID).replace("/*has text*/", _HAS_TEXT)


BY_WORDS = _statement(_RANKED, "agent_id")
BY_WORDS_OF_MANY = _statement(_RANKED_OF_MANY, "agent_id")
BY_WORDS_EVERYWHERE = _statement(_RANKED_OF_MANY, "organization_id")
NEWEST = _statement(_BACKWARDS, "agent_id")
NEWEST_EVERYWHERE = _statement(_BACKWARDS_EVERYWHERE, "organization_id")
