"""The part of a search for passages that looks up the words of a query, as tables of a larger statement."""
# ruff: noqa: S608 - statements are put together from constants and numbers; every other value is an argument

import re
from collections.abc import Mapping

from msgspec import Struct

QUERY_WORDS = 32
COMMON = 128  # a word in more passages than this says nothing, and is not looked up to its end
PROBED = 50  # passages that are read for a word which statistics expect to be common
KNOWN_FROM = 2000  # passages: of fewer, every word is looked up
NEARLY_ALL = 0.8  # of all passages: an index is not asked for the archives that hold so many, too
WORD_CHARS = 40  # a longer word is not common

_WORD = re.compile(r"\w+")


class Sought(Struct, frozen=True):
    """Placeholders of a text, of the `common` words that it may have, and of their shares of all passages."""

    text: str
    common: str
    shares: str


def common_in(text: str, words: Mapping[str, float]) -> dict[str, float]:
    """Return those of the common `words` that `text` may have, as it stands or stemmed.

    A stem is mostly the beginning of its word. One that is not is looked up as a rare word would be.
    """
    found: dict[str, float] = {}
    for word in _WORD.findall(text.lower()) if words else ():
        for end in range(2, min(len(word), WORD_CHARS) + 1):
            if (share := words.get(word[:end])) is not None:
                found[word[:end]] = share
    return found


def everywhere(sought: Sought, where: str) -> str:
    """Return tables that end with `lexical`: where passages with the words that are sought are.

    Its columns are `tid`, the place of a passage in the table, `share`, how much of the query it covers, up
    to 1, and `fts_rank`. `where` is what a passage `p` must fulfil. The statement must have the tables `size`
    (`n`: of how many passages these are) and `reach` (`total`: how many there are in all).
    """
    return _tables(sought, where, "a.word")


def within(sought: Sought, where: str) -> str:
    """Return the same for archives; the statement must have the tables `mine` (ids) and `ITS_WORD`, too."""
    return _tables(sought, where, _WORD_OF_MINE)


def _tables(sought: Sought, where: str, word: str) -> str:
    return _TABLES.format(
        text=sought.text,
        common=sought.common,
        shares=sought.shares,
        where=where,
        word=word,
        known_from=KNOWN_FROM,
    )


NONE = """lexical as (
  select null::tid as tid, null::float8 as share, null::bigint as fts_rank limit 0
)"""

# A lexeme as one operand of a tsquery, whatever characters it has.
_QUOTED = r"""('''' || replace(replace({}, '\', '\\'), '''', '''''') || '''')::tsquery"""

# The archives' ids as words: each passage has that of its archive, so the index reads nothing of others.
ITS_WORD = rf"""its_word as materialized (
  select string_agg(quoted::text, ' | ')::tsquery as scope
    from (select {_QUOTED.format("id")} as quoted from mine) q
)"""

# Asking for an archive's id reads where all its passages are, once for each word of the query. Where there
# are few of others, leaving those out afterwards costs less: half of the lookups at 10,000 passages.
_WORD_OF_MINE = f"""
       case when (select n from size) > {NEARLY_ALL} * (select nullif(total, 0) from reach)
            then a.word else (select scope from its_word) && a.word end"""

# A passage's share of the query: the sum of the weights of its words that the passage has, in any form, of
# the sum of all. A word weighs by how few passages have it, and most where none has. `ts_rank` is not used:
# over words joined by "or" it knows no rarity, and it must read every match; and the best match by words
# must not count in full where it has one word of many (with paraphrases that cost 8 of 100 first places).
# Of the words as they stand those that English stops are left out: nearly every passage has them. So are
# those that must be in so many passages of a large archive that they say nothing, by what statistics know of
# all archives: reading where they all are is what a search by words costs. Of a word that is common elsewhere
# a few passages are read, and it counts only if there are no more: this archive may be another. Of such
# words alone the rarest is looked for. A word that turns out to be in very many counts only where no other
# is found.
_TABLES = rf"""terms as materialized (
  select lexeme, positions from unnest(to_tsvector('english', {{text}}))
), forms as (
  select lexeme, min(positions[1]) as place
    from (select lexeme, positions from terms
          union all
          select s.lexeme, s.positions from unnest(to_tsvector('simple', {{text}})) s
           where exists (select from terms t where t.positions && s.positions)) both_forms
   group by lexeme order by place, lexeme limit {QUERY_WORDS}
), common as materialized (
  select e.lexeme, e.share * s.n as expected, e.share * s.total - (s.total - s.n) as sure
    from unnest({{common}}::text[], {{shares}}::float8[]) as e (lexeme, share)
   cross join (select (select n from size) as n,
                      greatest((select total from reach), (select n from size)) as total) s
   where s.n >= {{known_from}} and e.share * s.n >= {COMMON}
), asked as materialized (
  select {_QUOTED.format("lexeme")} as word, place, expected,
         case when rarity = 1 or expected is null then {COMMON} else {PROBED} end as most
    from (select f.lexeme, f.place, c.expected, c.sure,
                 row_number() over (order by c.expected nulls first, f.place) as rarity
            from forms f left join common c on c.lexeme = f.lexeme) ranked
   where rarity = 1 or coalesce(sure, 0) < {COMMON}
), heard as materialized (
  select a.place, a.expected, a.most, h.n, h.tids
    from asked a
   cross join lateral (
     select count(*) as n, array_agg(f.tid) as tids
       from (select p.ctid as tid from passages p where p.words @@ ({{word}}) and {{where}} limit a.most) f) h
), weights as materialized (
  select h.place, h.n, h.tids,
         case when h.n > 0 and (h.n < h.most or (select bool_and(n >= most) from heard where n > 0))
              then ln(1 + (select n from size)
                          / greatest(h.n, case when h.n >= h.most then h.expected end)::float8)
         end as weight
    from heard h
), whole as materialized (
  select sum(coalesce(weight, ln(1 + (select n from size)))) as weight
    from (select max(weight) as weight, bool_and(n = 0) as absent from weights group by place) places
   where weight is not null or absent
), shares as (
  select tid, sum(weight) as weight
    from (select t.tid, w.place, max(w.weight) as weight
            from weights w cross join unnest(w.tids) as t (tid)
           where w.weight is not null
           group by t.tid, w.place) once
   group by tid
), lexical as materialized (
  select tid, weight / (select weight from whole) as share,
         row_number() over (order by weight desc, tid desc) as fts_rank
    from shares
)"""
