"""The statements that find passages: by meaning and words in one go, by words alone, or the newest."""
# ruff: noqa: S608 - statements are put together from constants and numbers; every other value is an argument

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

SearchMode = Literal["hybrid", "vector", "fts", "substring", "timestamp"]

QUERY_CHARS = 2000  # what of a query counts
QUERY_WORDS = 32
CANDIDATES = 50  # of each list, beyond what is asked for: the best by both may be first in neither
COMMON = 128  # a word in more passages than this says nothing, and is not looked up to its end
PROBED = 50  # passages that are read for a word which statistics expect to be common
KNOWN_FROM = 20_000  # passages; in fewer, looking up a common word costs less than reading statistics (1 ms)
WORDS_WEIGHT = 0.2  # of all words of the query, beside a cosine; 0.15 to 0.3 did equally well
INDEXED_FROM = 2000  # passages; fewer are compared one by one, which is exact
SCANNED_SQUARED = 1200  # see `_reach`
TYPED_DIMENSIONS = 2000  # pgvector indexes up to this many as `vector`, up to the next as `halfvec`
HALF_DIMENSIONS = 4000

_UNSENDABLE = {0: " ", **dict.fromkeys(range(0xD800, 0xE000), " ")}  # NUL and lone surrogates


class Where(Struct, frozen=True, kw_only=True):
    """Which passages are searched. With neither agent nor archives: all of the organisation."""

    organization_id: str
    agent_id: str | None = None
    archive_ids: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    match_all_tags: bool = False
    start: datetime | None = None
    end: datetime | None = None


class Arguments:
    """The values of a statement under construction."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def add(self, value: object) -> str:
        """Return the placeholder of a further value."""
        self.values.append(value)
        return f"${len(self.values)}"


Statement = tuple[str, Sequence[object]]


def cleaned(query: str | None) -> str:
    """Return what of a query is looked for."""
    return (query or "")[:QUERY_CHARS].translate(_UNSENDABLE).strip()


def containing(text: str) -> str:
    """Return the pattern of `like` for texts that contain this one."""
    literal = text.translate(_UNSENDABLE).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{literal}%"


def index_name(dimensions: int) -> str:
    """Return the name of the index of vectors of this length."""
    return f"passages_by_meaning_{dimensions}"


def indexed(column: str, dimensions: int) -> str | None:
    """Return the expression that the index of vectors of this length is made of; None: it cannot be."""
    if dimensions <= TYPED_DIMENSIONS:
        return f"{column}::vector({dimensions})"
    return f"{column}::halfvec({dimensions})" if dimensions <= HALF_DIMENSIONS else None


def by_meaning(
    where: Where,
    columns: str,
    text: str,
    vector: Sequence[float],
    model: str,
    limit: int,
    *,
    typed: bool,
) -> Statement:
    """Return the search by a vector, and by words where `text` is not empty.

    The score is the cosine, plus `WORDS_WEIGHT` for all words of the query and less for some of them.
    `typed` says that the database has pgvector; else vectors are arrays, compared one by one.
    """
    arguments = Arguments()
    scope = _scope(where, arguments)
    aim = arguments.add(vector)
    same = f"p.dimensions = {len(vector)} and p.embedding_model = {arguments.add(model)}"
    cosine = _TYPED_COSINE.format(aim=aim) if typed else _ARRAY_COSINE.format(aim=aim)
    most = CANDIDATES + limit
    near = _near(scope, same, cosine, aim, len(vector), most, typed=typed)
    words = scope.words(arguments.add(text), most) if text else _NO_WORDS
    statement = f"""
with {scope.tables},
reach as materialized ({_reach(len(vector), typed=typed)}),
{scope.size},
near as materialized ({near}),
{words},
found as (
  select coalesce(n.id, l.id) as id, n.cosine, n.vector_rank, l.share, l.fts_rank
    from near n full join lexical l on l.id = n.id
)
select {columns}, f.vector_rank, f.fts_rank,
       coalesce(f.cosine, case when {same} then {cosine} end, 0)
       + {WORDS_WEIGHT} * coalesce(f.share, 0) as score
  from found f join passages p on p.id = f.id
 order by score desc, p.created_at desc, p.id
 limit {limit}
"""
    return statement, arguments.values


def by_words(where: Where, columns: str, text: str, limit: int) -> Statement:
    """Return the search by words alone. The score is how much of the query a passage covers, up to 1."""
    arguments = Arguments()
    scope = _scope(where, arguments)
    statement = f"""
with {scope.tables},
reach as materialized (select {INDEXED_FROM}::bigint as most),
{scope.size},
{scope.words(arguments.add(text), limit)}
select {columns}, l.share as score, null::bigint as vector_rank, l.fts_rank
  from lexical l join passages p on p.id = l.id
 order by l.fts_rank
"""
    return statement, arguments.values


def newest(where: Where, columns: str, text: str | None, limit: int) -> Statement:
    """Return the search for the newest, of those that contain `text` where it is given.

    Each archive is read backwards along its index, as far as is needed.
    """
    arguments = Arguments()
    scope = _scope(where, arguments)
    condition = scope.condition if scope.archives is None else scope.within("p.archive_id = m.id")
    if text:
        condition += f" and p.text ilike {arguments.add(containing(text))}"
    rows = f"""
    select {columns}
      from passages p
     where {condition}
     order by p.created_at desc, p.id desc
     limit {limit}"""
    if scope.archives is not None:
        rows = f"select found.* from mine m cross join lateral ({rows}) found"
    statement = f"""
with {scope.tables}
select f.*, 0::float8 as score, null::bigint as vector_rank, null::bigint as fts_rank
  from ({rows}) f
 order by f.created_at desc, f.id desc
 limit {limit}
"""
    return statement, arguments.values


# --- their parts ------------------------------------------------------------------------------


class _Scope(Struct, frozen=True, kw_only=True):
    """Where passages are looked for, as SQL. `archives` selects those that are meant; None means all."""

    archives: str | None
    place: str
    filters: tuple[str, ...]

    @property
    def tables(self) -> str:
        """The first tables of the statement: the archives, and their ids as one tsquery."""
        if self.archives is None:
            return "mine as (select null::text as id)"
        return f"mine as materialized ({self.archives}), {_ITS_WORD}"

    @property
    def condition(self) -> str:
        """What a passage `p` must fulfil."""
        return self.within(self.place)

    def within(self, place: str) -> str:
        """Return what a passage of `place` must fulfil."""
        return " and ".join((place, *self.filters))

    @property
    def size(self) -> str:
        """The table of one number: of how many passages there is one, about, where there are many."""
        counted = _COUNTED.format(where=self.condition)
        if self.archives is None or self.filters:
            return f"size as materialized ({counted})"
        return _SIZE.format(counted=counted)

    def words(self, text: str, most: int) -> str:
        """Return the tables that find the words of the argument `text`."""
        if self.archives is None:
            return _lookups(text, self.condition, "a.word", most)
        # No index of archives knows this expression: it would read all of one, in the hope of an early end.
        found = self.within("p.archive_id || '' = any (array(select id from mine))")
        word = "((select scope from its_word) && a.word)"
        return _lookups(text, found, word, most)


def _scope(where: Where, arguments: Arguments) -> _Scope:
    organization = arguments.add(where.organization_id)
    archives, place = None, f"p.organization_id = {organization}"
    if where.agent_id is not None or where.archive_ids is not None:
        place = "p.archive_id = any (array(select id from mine))"
        archives = "select a.id from archives a"
        if where.agent_id is not None:
            agent = arguments.add(where.agent_id)
            archives += f" join archives_agents aa on aa.archive_id = a.id and aa.agent_id = {agent}"
        archives += f" where a.organization_id = {organization}"
        if where.archive_ids is not None:
            archives += f" and a.id = any ({arguments.add(list(where.archive_ids))}::text[])"
    filters: list[str] = []
    if where.tags:
        sign = "@>" if where.match_all_tags else "&&"
        filters.append(f"p.tags {sign} {arguments.add(list(where.tags))}::text[]")
    if where.start is not None:
        filters.append(f"p.created_at >= {arguments.add(where.start)}")
    if where.end is not None:
        filters.append(f"p.created_at <= {arguments.add(where.end)}")
    return _Scope(archives=archives, place=place, filters=tuple(filters))


def _lookups(text: str, where: str, word: str, most: int) -> str:
    return _WORDS.format(text=text, where=where, word=word, most=most, known_from=KNOWN_FROM)


# A lexeme as one operand of a tsquery, whatever characters it has.
_QUOTED = r"""('''' || replace(replace({}, '\', '\\'), '''', '''''') || '''')::tsquery"""

# The archives' ids as words: each passage has that of its archive, so the index reads nothing of others.
_ITS_WORD = rf"""its_word as materialized (
  select string_agg(quoted::text, ' | ')::tsquery as scope
    from (select {_QUOTED.format("id")} as quoted from mine) q
)"""


def _reach(dimensions: int, *, typed: bool) -> str:
    """Return the table of one number: for how many passages, at most, all are compared; null: always.

    Comparing costs 1.2 µs each. The index costs 30 µs for each candidate that it meets (18 pages read, 90 µs
    where they are not in the server's own memory), most of which belong to other archives: of N passages in
    all it meets about 50 N / n to find 50 of our n. Both are equal at n² = 1200 N.
    """
    if not typed or indexed("", dimensions) is None:
        return "select null::bigint as most"
    # A further length has no index yet when the first passages with it are searched.
    made = f"to_regclass('{index_name(dimensions)}') is not null"
    return f"""
  select case when {made}
              then greatest({INDEXED_FROM}, sqrt({SCANNED_SQUARED} * greatest(c.reltuples, 0)))::bigint
         end as most
    from pg_class c where c.oid = 'passages'::regclass"""


_COUNTED = """
  select count(*) as n
    from (select from passages p where {where} limit (select most + 1 from reach)) counted"""

# Counting thousands takes longer than all the rest that is not comparing: statistics know large archives.
_SIZE = rf"""known as materialized (
  select sum(e.share * greatest(c.reltuples, 0))::bigint as n
    from pg_stats s
    join pg_class c on c.oid = 'passages'::regclass
   cross join unnest(s.most_common_vals::text::text[], s.most_common_freqs) as e (id, share)
   where s.schemaname = current_schema and s.tablename = 'passages' and s.attname = 'archive_id'
     and e.id = any (array(select id from mine))
), size as materialized (
  select n from known where n > {INDEXED_FROM}
  union all
  ({{counted}} having (select n from known) is null or (select n from known) <= {INDEXED_FROM})
)"""

_TYPED_COSINE = "nullif(1 - (p.embedding <=> {aim}), 'NaN')"
_ARRAY_COSINE = """(
    select sum(x.a::float8 * x.b) / nullif(sqrt(sum(x.a::float8 * x.a)) * sqrt(sum(x.b::float8 * x.b)), 0)
      from unnest(p.embedding, {aim}::real[]) as x (a, b))"""


def _near(scope: _Scope, same: str, cosine: str, aim: str, dimensions: int, most: int, *, typed: bool) -> str:
    """Return the nearest passages: compared one by one, or found by index where that is cheaper."""

    def nearest(order: str, gate: str = "true") -> str:
        return f"""
    select p.id, {cosine} as cosine
      from passages p
     where {gate} and {scope.condition} and {same}
     order by {order}
     limit {most}"""

    expression = indexed("p.embedding", dimensions)
    if not typed:
        rows = nearest(f"{cosine} desc nulls last")
    elif expression is None:
        rows = nearest(f"p.embedding <=> {aim}")
    else:
        size, reach = "(select n from size)", "(select most from reach)"
        few = nearest(f"p.embedding <=> {aim}", f"({size} > {reach}) is not true")
        half = expression.partition("::")[2]
        many = nearest(f"{expression} <=> {aim}::{half}", f"{size} > {reach}")
        rows = f"({few})\n    union all\n    ({many})"
    return f"""
  select id, cosine, row_number() over (order by cosine desc nulls last, id) as vector_rank
    from ({rows}) nearest"""


_NO_WORDS = """lexical as (
  select null::text as id, null::float8 as share, null::bigint as fts_rank limit 0
)"""

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
_WORDS = rf"""terms as materialized (
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
    from pg_stats known_words
   cross join (select (select n from size) as n,
                      (select greatest(reltuples, (select n from size)) from pg_class
                        where oid = 'passages'::regclass) as total) s
   cross join unnest(most_common_elems::text::text[], most_common_elem_freqs) as e (lexeme, share)
   where schemaname = current_schema and tablename = 'passages' and attname = 'words'
     and (select n from size) >= {{known_from}} and e.share * s.n >= {COMMON}
     and e.lexeme in (select lexeme from forms)
), asked as materialized (
  select {_QUOTED.format("lexeme")} as word, place, row_number() over () as i, expected,
         case when rarity = 1 or expected is null then {COMMON} else {PROBED} end as most
    from (select f.lexeme, f.place, c.expected, c.sure,
                 row_number() over (order by c.expected nulls first, f.place) as rarity
            from forms f left join common c on c.lexeme = f.lexeme) ranked
   where rarity = 1 or coalesce(sure, 0) < {COMMON}
), hits as materialized (
  select a.i, a.place, h.id
    from asked a
   cross join lateral (
     select p.id from passages p where p.words @@ {{word}} and {{where}} limit a.most) h
), counts as materialized (
  select a.i, count(*) as n, count(*) >= a.most as cut, max(a.expected) as expected
    from hits h join asked a on a.i = h.i
   group by a.i, a.most
), weights as materialized (
  select a.i, a.place, ln(1 + (select n from size)
                              / greatest(c.n, case when c.cut then c.expected end)::float8) as weight
    from asked a join counts c on c.i = a.i
   where not c.cut or (select bool_and(cut) from counts)
), whole as materialized (
  select sum(coalesce(weight, ln(1 + (select n from size)))) as weight
    from (select a.place, max(w.weight) as weight, bool_and(c.n is null) as absent
            from asked a left join weights w on w.i = a.i left join counts c on c.i = a.i
           group by a.place) places
   where weight is not null or absent
), shares as (
  select id, sum(weight) as weight
    from (select h.id, h.place, max(w.weight) as weight
            from hits h join weights w on w.i = h.i
           group by h.id, h.place) once
   group by id
), lexical as materialized (
  select id, weight / (select weight from whole) as share,
         row_number() over (order by weight desc, id) as fts_rank
    from shares order by weight desc, id limit {{most}}
)"""
