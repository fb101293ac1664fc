"""Passages as rows: written with their vectors, found by meaning and words, listed by age."""
# ruff: noqa: S608 - statements are put together from constants; every value is an argument

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from storage import archives, passage_search, passage_statistics
from storage.archive_records import Archive, Passage
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.passage_search import Arguments, SearchMode
from storage.passage_words import COMMON
from storage.pool import Conn, Row

AT_ONCE = 100  # rows in one round trip: each costs 3 ms for its place in the index, and waits are bounded

_COLUMNS = """p.id, p.organization_id, p.archive_id, p.text, p.created_at, p.updated_at, p.tags, p.metadata,
       p.embedding_model, p.created_by_id, p.last_updated_by_id"""


class PassageHit(Struct, frozen=True, kw_only=True):
    """A passage that was found, without its vector. The greater `score`, the better.

    The ranks count from 1 in the list by meaning and in that by words; `None` means that it was not there.
    """

    passage: Passage
    score: float
    search_mode: SearchMode
    vector_rank: int | None = None
    fts_rank: int | None = None


# One row for each call of `executemany`, which sends them all at once. Both column types of vectors
# take the same argument: the driver's codec knows which one it is.
_INSERT = """
insert into passages (id, organization_id, archive_id, text, tags, metadata, embedding_model, dimensions,
       embedding, created_at, updated_at, created_by_id, last_updated_by_id, embeddable)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""


async def insert(conn: Conn, passages: Sequence[Passage]) -> None:
    """Store passages, in a transaction all or none. A vector of zeros has no direction: words find it.

    Raises:
        ConflictError: An archive is gone, or an id is taken.
        RefusedError: A vector has a number that is not finite, or none or too many of them.
    """
    for start in range(0, len(passages), AT_ONCE):
        await conn.executemany(_INSERT, [_arguments(p) for p in passages[start : start + AT_ONCE]])


def _arguments(passage: Passage) -> tuple[object, ...]:
    vector = passage.vector if passage.vector is not None and any(passage.vector) else None
    return (
        passage.id,
        passage.organization_id,
        passage.archive_id,
        passage.text,
        list(passage.tags),
        msgspec.json.encode(passage.metadata),
        None if vector is None else passage.embedding_model,
        None if vector is None else len(vector),
        vector,
        passage.created_at,
        passage.updated_at,
        passage.created_by_id,
        passage.last_updated_by_id,
        passage.vector is None or vector is not None,
    )


async def insert_for_agent(conn: Conn, agent_id: str, passages: Sequence[Passage]) -> list[Passage]:
    """Store an agent's new memories in the archive that they go to, and return them as stored.

    Run it in the transaction of the agent's actor: the first one makes the archive.

    Raises:
        NotFoundError: There is no such agent.
        ConflictError, RefusedError: See `insert`.
    """
    embedding, dimensions = _model_of(passages)
    archive = await archives.ensure_for_agent(conn, agent_id, embedding=embedding, dimensions=dimensions)
    stored = [replace(passage, archive_id=archive.id) for passage in passages]
    await insert(conn, stored)
    return stored


async def insert_into(conn: Conn, archive: Archive, passages: Sequence[Passage]) -> None:
    """Store passages of an archive; the first vector settles its model. Run it in a transaction.

    Raises:
        ConflictError, RefusedError: See `insert`.
    """
    embedding, dimensions = _model_of(passages)
    await archives.settle_model(conn, archive, embedding=embedding, dimensions=dimensions)
    await insert(conn, passages)


def _model_of(passages: Sequence[Passage]) -> tuple[str | None, int | None]:
    """Return the model of the first vector that can be compared, and its length."""
    for passage in passages:
        if passage.vector is not None and any(passage.vector):
            return passage.embedding_model, len(passage.vector)
    return None, None


_GET = f"select {_COLUMNS}, p.embedding from passages p where p.id = $1 and p.organization_id = $2"


async def get(conn: Conn, passage_id: str, *, organization_id: str) -> Passage:
    """Return one passage with its vector.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    row = await conn.fetchrow(_GET, passage_id, organization_id)
    if row is None:
        raise NotFoundError("passage", passage_id)
    return _passage(row)


_DELETE_OF_AGENT = """
delete from passages p
 where p.id = $2 and p.archive_id in (select archive_id from archives_agents where agent_id = $1)
returning p.archive_id
"""


async def delete_of_agent(conn: Conn, agent_id: str, passage_id: str) -> str:
    """Delete a passage of one of an agent's archives; return the archive's id.

    Raises:
        NotFoundError: The agent has no such passage.
    """
    archive_id = await conn.fetchval(_DELETE_OF_AGENT, agent_id, passage_id)
    if archive_id is None:
        raise NotFoundError("passage", passage_id)
    return archive_id


_DELETE = "delete from passages where id = $1 and archive_id = $2 and organization_id = $3 returning id"


async def delete(conn: Conn, passage_id: str, *, archive_id: str, organization_id: str) -> None:
    """Delete a passage of an archive.

    Raises:
        NotFoundError: The archive has no such passage, or is not the organisation's.
    """
    if await conn.fetchrow(_DELETE, passage_id, archive_id, organization_id) is None:
        raise NotFoundError("passage", passage_id)


_COUNT = """
select count(*) from archives_agents aa join passages p on p.archive_id = aa.archive_id where aa.agent_id = $1
"""


async def count(conn: Conn, agent_id: str) -> int:
    """Return how many passages an agent's archives hold."""
    return await conn.fetchval(_COUNT, agent_id)


_CURSOR = "select created_at, id from passages where id = $1 and organization_id = $2"


async def list_page(
    conn: Conn, page: Page, *, agent_id: str, organization_id: str, search: str | None = None
) -> list[Passage]:
    """Return a page of an agent's passages by age, with their vectors; `search` is a part of their text.

    Each archive is read along its index as far as the page needs, however large it is.

    Raises:
        NotFoundError: The cursor names no passage of the organisation.
    """
    backwards = page.before is not None and page.after is None
    arguments = Arguments()
    held = f"select archive_id from archives_agents where agent_id = {arguments.add(agent_id)}"
    conditions = ["p.archive_id = held.archive_id"]
    for cursor, sign in ((page.after, "<>"[not page.descending]), (page.before, "<>"[page.descending])):
        if cursor is not None:
            key = await conn.fetchrow(_CURSOR, cursor, organization_id)
            if key is None:
                raise NotFoundError("passage", cursor)
            at, last = arguments.add(key["created_at"]), arguments.add(key["id"])
            conditions.append(f"(p.created_at, p.id) {sign} ({at}, {last})")
    if search is not None:
        conditions.append(f"p.text ilike {arguments.add(passage_search.containing(search))}")
    direction = "desc" if page.descending != backwards else "asc"
    limit = arguments.add(page.limit)
    rows = await conn.fetch(
        f"""
select p.*
  from ({held}) held
 cross join lateral (
   select {_COLUMNS}, p.embedding
     from passages p
    where {" and ".join(conditions)}
    order by p.created_at {direction}, p.id {direction}
    limit {limit}) p
 order by p.created_at {direction}, p.id {direction}
 limit {limit}
""",
        *arguments.values,
    )
    found = [_passage(row) for row in rows]
    return found[::-1] if backwards else found


async def search(
    conn: Conn,
    *,
    organization_id: str,
    agent_id: str | None = None,
    archive_ids: Sequence[str] | None = None,
    query: str | None = None,
    vector: Sequence[float] | None = None,
    embedding_model: str | None = None,
    tags: Sequence[str] = (),
    match_all_tags: bool = False,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 5,
) -> list[PassageHit]:
    """Return up to `limit` passages, best first, of an agent's archives, of these archives, or of all.

    `vector` is the query under `embedding_model`: passages of other models are found by words only.
    Without a query and a vector the newest come. Words count by how rare they are; a query whose words
    nobody wrote is, where no vector helps, looked for as it stands. `query` is data: no operator in it
    has a meaning. Both ends of the time span are included.
    """
    text = passage_search.cleaned(query)
    direction = vector if vector is not None and embedding_model is not None and any(vector) else None
    where = passage_search.Where(
        organization_id=organization_id,
        agent_id=agent_id,
        archive_ids=None if archive_ids is None else tuple(archive_ids),
        tags=tuple(tags),
        match_all_tags=match_all_tags,
        start=start,
        end=end,
    )
    common: Mapping[str, float] = {}
    if text:
        common = await passage_statistics.common_words(conn, least=COMMON)
    if direction is not None and embedding_model is not None:
        statement, arguments = passage_search.by_meaning(
            where,
            _COLUMNS,
            text,
            direction,
            embedding_model,
            limit,
            typed=conn.has_vectors,
            common=common,
        )
        mode: SearchMode = "hybrid" if text else "vector"
    elif text:
        statement, arguments = passage_search.by_words(where, _COLUMNS, text, limit, common=common)
        mode = "fts"
    else:
        statement, arguments = passage_search.newest(where, _COLUMNS, None, limit)
        mode = "timestamp"
    rows = await conn.fetch(statement, *arguments)
    if not rows and mode == "fts":
        statement, arguments = passage_search.newest(where, _COLUMNS, text, limit)
        rows, mode = await conn.fetch(statement, *arguments), "substring"
    return [_hit(row, mode) for row in rows]


def _hit(row: Row, mode: SearchMode) -> PassageHit:
    return PassageHit(
        passage=_passage(row),
        score=row["score"],
        search_mode=mode,
        vector_rank=row["vector_rank"],
        fts_rank=row["fts_rank"],
    )


def _passage(row: Row) -> Passage:
    vector: Sequence[float] | None = row.get("embedding")
    return Passage(
        id=row["id"],
        organization_id=row["organization_id"],
        archive_id=row["archive_id"],
        text=row["text"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tags=tuple(row["tags"]),
        metadata=msgspec.json.decode(row["metadata"]),
        embedding_model=row["embedding_model"],
        vector=None if vector is None else tuple(vector),
        created_by_id=row["created_by_id"],
        last_updated_by_id=row["last_updated_by_id"],
    )
