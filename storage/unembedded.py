"""Passages that wait for their vectors: found by archive along an index of their own, embedded later."""

from collections.abc import Sequence

from msgspec import Struct

from storage import archives
from storage.pool import Conn, transaction

_WAITS = "p.dimensions is null and p.embeddable"  # the condition of `passages_unembedded`


class Waiting(Struct, frozen=True, kw_only=True):
    """An archive with passages that wait. `embedding` is the handle by which they are to be embedded:
    the archive's own (it is `settled` then), else that of the agent whose memories go there; `None`
    leaves it to the server.
    """

    archive_id: str
    organization_id: str
    embedding: str | None
    settled: bool


class Text(Struct, frozen=True):
    """What a passage said when it was read."""

    id: str
    text: str


class Vector(Struct, frozen=True):
    """What a passage's text, as it was read, became. An empty one: its model has none for it."""

    id: str
    text: str
    numbers: tuple[float, ...]


# Hops along the index from archive to archive: what it costs is a matter of archives, not of passages.
_ARCHIVES = f"""
with recursive waiting (id) as (
  (select p.archive_id from passages p where {_WAITS} and p.archive_id > $1
    order by p.archive_id limit 1)
  union all
  select (select p.archive_id from passages p where {_WAITS} and p.archive_id > w.id
           order by p.archive_id limit 1)
    from waiting w where w.id is not null
)
select a.id, a.organization_id, a.embedding is not null as settled, coalesce(a.embedding, (
         select g.settings ->> 'embedding'
           from archives_agents aa join agents g on g.id = aa.agent_id
          where aa.archive_id = a.id
          order by aa.is_owner desc, aa.created_at, g.id limit 1)) as embedding
  from (select id from waiting where id is not null limit $2) w join archives a on a.id = w.id
 order by a.id
"""  # noqa: S608 - the condition is a constant


async def waiting_archives(conn: Conn, *, after: str = "", limit: int) -> list[Waiting]:
    """Return a page of the archives with passages that wait, by id; `after` ends the page before."""
    rows = await conn.fetch(_ARCHIVES, after, limit)
    return [
        Waiting(
            archive_id=row["id"],
            organization_id=row["organization_id"],
            embedding=row["embedding"],
            settled=row["settled"],
        )
        for row in rows
    ]


_TEXTS = f"""
select p.id, p.text from passages p
 where {_WAITS} and p.archive_id = $1
 order by p.created_at, p.id
 limit $2
"""  # noqa: S608 - the condition is a constant


async def texts(conn: Conn, archive_id: str, *, limit: int) -> list[Text]:
    """Return the oldest of an archive's passages that wait."""
    return [Text(row["id"], row["text"]) for row in await conn.fetch(_TEXTS, archive_id, limit)]


# A text that somebody changed or deleted since it was read is not of this vector; nor is one that has its
# vector already. Locked, so that what is true of them here is true at the updates.
_STILL = f"""
select p.id
  from unnest($1::text[], $2::text[]) as v (id, text)
  join passages p on p.id = v.id and p.text = v.text
 where {_WAITS}
 order by p.id
   for no key update of p
"""  # noqa: S608 - the condition is a constant

_SET = "update passages set embedding_model = $2, dimensions = $3, embedding = $4 where id = $1"

_GIVE_UP = "update passages set embeddable = false where id = any ($1::text[])"


async def store(conn: Conn, waiting: Waiting, vectors: Sequence[Vector], *, model: str) -> int:
    """Give passages their vectors by `model`, in one transaction; return how many took one or gave up.

    The first vector of an archive settles its model. None is stored where the archive is gone, or was
    settled on another model meanwhile: with a second one half of it would not be comparable.

    Raises:
        NotFoundError: The archive is gone.
        RefusedError: A vector has a number that is not finite, or too many of them.
    """
    async with transaction(conn):
        return await _store(conn, waiting, vectors, model)


async def _store(conn: Conn, waiting: Waiting, vectors: Sequence[Vector], model: str) -> int:
    archive = await archives.get(conn, waiting.archive_id, organization_id=waiting.organization_id)
    lengths = {len(vector.numbers) for vector in vectors if any(vector.numbers)}
    if lengths:
        archive = await archives.settle_model(conn, archive, embedding=model, dimensions=min(lengths))
    if archive.embedding not in (None, waiting.embedding, model):
        return 0
    rows = await conn.fetch(_STILL, [v.id for v in vectors], [v.text for v in vectors])
    still = {row["id"] for row in rows}
    found = [v for v in vectors if v.id in still and any(v.numbers)]
    if found:
        await conn.executemany(_SET, [(v.id, model, len(v.numbers), v.numbers) for v in found])
    hopeless = still - {v.id for v in found}
    if hopeless:
        await conn.execute(_GIVE_UP, list(hopeless))
    return len(still)
