"""The statements that find passages: by meaning and words in one go, by words alone, or the newest."""
# ruff: noqa: S608 - statements are put together from constants and numbers; every other value is an argument

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from storage import passage_words
from storage.passage_words import Sought

SearchMode = Literal["hybrid", "vector", "fts", "substring", "timestamp"]

QUERY_CHARS = 2000  # what of a query counts
CANDIDATES = 50  # of each list, beyond what is asked for: the best by both may be first in neither
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
    common: Mapping[str, float],
) -> Statement:
    """Return the search by a vector, and by words where `text` is not empty; `common` as for `by_words`.

    The score is the cosine, plus `WORDS_WEIGHT` for all words of the query and less for some of them; of
    equals the newer is better. Between its parts a row is known by its place in the table: one statement
    sees that unchanged, and it leads to the row for a tenth of what an id costs. `typed` says that the
    database has pgvector; else vectors are arrays, compared one by one.
    """
    arguments = Arguments()
    scope = _scope(where, arguments)
    aim = arguments.add(vector)
    same = f"p.dimensions = {len(vector)} and p.embedding_model = {arguments.add(model)}"
    cosine = _TYPED_COSINE.format(aim=aim) if typed else _ARRAY_COSINE.format(aim=aim)
    most = CANDIDATES + limit
    words = scope.words(_sought(text, common, arguments)) if text else passage_words.NONE
    statement = f"""
with {scope.tables},
reach as materialized ({_reach(len(vector), typed=typed)}),
{scope.compared(f"case when {same} then {cosine} end")},
near as materialized ({_near(scope, same, cosine, aim, len(vector), most, typed=typed)}),
{words},
best as (
  select coalesce(n.tid, l.tid) as tid, coalesce(n.created_at, x.created_at) as created_at,
         n.vector_rank, l.fts_rank,
         coalesce(n.cosine, x.cosine, 0) + {WORDS_WEIGHT} * coalesce(l.share, 0) as score
    from near n full join lexical l on l.tid = n.tid
    left join lateral (
      select p.created_at, case when {same} then {cosine} end as cosine
        from passages p where p.ctid = l.tid and n.tid is null) x on true
   where n.tid is not null or l.fts_rank <= {most}
   order by score desc, created_at desc, tid desc
   limit {limit}
)
select {columns}, b.vector_rank, b.fts_rank, b.score
  from best b join passages p on p.ctid = b.tid
 order by b.score desc, b.created_at desc, b.tid desc
"""
    return statement, arguments.values


def by_words(where: Where, columns: str, text: str, limit: int, *, common: Mapping[str, float]) -> Statement:
    """Return the search by words alone. The score is how much of the query a passage covers, up to 1.

    `common` are words that many passages have, with their share of all passages.
    """
    arguments = Arguments()
    scope = _scope(where, arguments)
    statement = f"""
with {scope.tables},
reach as materialized (select {INDEXED_FROM}::bigint as most, {_TOTAL}),
{scope.size},
{scope.words(_sought(text, common, arguments))}
select {columns}, l.share as score, null::bigint as vector_rank, l.fts_rank
  from (select * from lexical order by fts_rank limit {limit}) l join passages p on p.ctid = l.tid
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
        return f"mine as materialized ({self.archives}), {passage_words.ITS_WORD}"

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

    def compared(self, cosine: str) -> str:
        """The tables of passages that are compared one by one, if there are few, and of how many there are.

        Counting them first would read them twice, unless much of what is read is not compared.
        """
        many = "(select n from {}) > (select most from reach)"
        if self.archives is None or self.filters:
            first, before, after = "size", f"{self.size},", ""
        else:
            first, before, after = "known", f"{_KNOWN},", f", {_SIZE_BY_COMPARING}"
        return f"""{before}
compared as materialized (
  select p.ctid as tid, p.created_at, {cosine} as cosine
    from passages p
   where ({many.format(first)}) is not true and {self.condition}
   limit (select most + 1 from reach)
){after}"""

    def words(self, sought: Sought) -> str:
        """Return the tables that find the words that are sought."""
        if self.archives is None:
            return passage_words.everywhere(sought, self.condition)
        # No index of archives knows this expression: it would read all of one, in the hope of an early end.
        place = "p.archive_id || '' = any (array(select id from mine))"
        return passage_words.within(sought, self.within(place))


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


def _sought(text: str, common: Mapping[str, float], arguments: Arguments) -> Sought:
    known = passage_words.common_in(text, common)
    add = arguments.add
    return Sought(add(text), add(list(known)), add(list(known.values())))


def _reach(dimensions: int, *, typed: bool) -> str:
    """Return the table of one number: for how many passages, at most, all are compared; null: always.

    Comparing costs 1.2 µs each. The index costs 30 µs for each candidate that it meets (18 pages read, 90 µs
    where they are not in the server's own memory), most of which belong to other archives: of N passages in
    all it meets about 50 N / n to find 50 of our n. Both are equal at n² = 1200 N.
    """
    if not typed or indexed("", dimensions) is None:
        return f"select null::bigint as most, {_TOTAL}"
    # A further length has no index yet when the first passages with it are searched.
    made = f"to_regclass('{index_name(dimensions)}') is not null"
    return f"""
  select case when {made}
              then greatest({INDEXED_FROM}, sqrt({SCANNED_SQUARED} * greatest(c.reltuples, 0)))::bigint
         end as most, greatest(c.reltuples, 0) as total
    from pg_class c where c.oid = 'passages'::regclass"""


_COUNTED = """
  select count(*) as n
    from (select from passages p where {where} limit (select most + 1 from reach)) counted"""

_TOTAL = "(select greatest(reltuples, 0) from pg_class where oid = 'passages'::regclass) as total"

# Counting thousands takes longer than all the rest that is not comparing: statistics know large archives.
_KNOWN = """known as materialized (
  select sum(e.share * greatest(c.reltuples, 0))::bigint as n
    from pg_stats s
    join pg_class c on c.oid = 'passages'::regclass
   cross join unnest(s.most_common_vals::text::text[], s.most_common_freqs) as e (id, share)
   where s.schemaname = current_schema and s.tablename = 'passages' and s.attname = 'archive_id'
     and e.id = any (array(select id from mine))
     and (select most <= total from reach)
)"""
_SIZE = rf"""{_KNOWN}, size as materialized (
  select n from known where n > {INDEXED_FROM}
  union all
  ({{counted}} having (select n from known) is null or (select n from known) <= {INDEXED_FROM})
)"""
_SIZE_BY_COMPARING = """size as materialized (
  select case when (select n from known) > (select most from reach) then (select n from known)
              else (select count(*) from compared) end as n
)"""

_TYPED_COSINE = "nullif(1 - (p.embedding <=> {aim}), 'NaN')"
_ARRAY_COSINE = """(
    select sum(x.a::float8 * x.b) / nullif(sqrt(sum(x.a::float8 * x.a)) * sqrt(sum(x.b::float8 * x.b)), 0)
      from unnest(p.embedding, {aim}::real[]) as x (a, b))"""


def _near(scope: _Scope, same: str, cosine: str, aim: str, dimensions: int, most: int, *, typed: bool) -> str:
    """Return the nearest passages: those of `compared`, or found by index where that is cheaper."""
    many = "(select n from size) > (select most from reach)"
    rows = f"""
    select tid, created_at, cosine from compared
     where ({many}) is not true and cosine is not null
     order by cosine desc
     limit {most}"""
    expression = indexed("p.embedding", dimensions) if typed else None
    if expression is not None:
        rows = f"""({rows})
    union all
    (select p.ctid, p.created_at, {cosine}
      from passages p
     where {many} and {scope.condition} and {same}
     order by {expression} <=> {aim}::{expression.partition("::")[2]}
     limit {most})"""
    return f"""
  select tid, created_at, cosine, row_number() over (order by cosine desc nulls last, tid desc) as vector_rank
    from ({rows}) nearest"""
