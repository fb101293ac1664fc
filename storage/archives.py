"""Archives as rows: collections of passages, and the agents that they are attached to."""
# ruff: noqa: S608 - statements are put together from constants

import msgspec
from msgspec import Struct

from storage.archive_records import Archive, ArchiveChanges
from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import AgentSettings


class Library(Struct, frozen=True, kw_only=True):
    """What a search needs to know of an agent: its timezone, and the handle that its memories are embedded
    with, which is its first archive's or, where that has none, its own choice.
    """

    timezone: str
    embedding: str | None


class ArchiveFilter(Struct, frozen=True, kw_only=True):
    """Which archives of an organisation; every filter that is given must hold."""

    organization_id: str
    name: str | None = None
    agent_id: str | None = None


_COLUMNS = """a.id, a.organization_id, a.name, a.description, a.embedding, a.dimensions, a.metadata,
       a.created_at, a.updated_at, a.created_by_id, a.last_updated_by_id"""

_INSERT = f"""
insert into archives as a (id, organization_id, name, description, embedding, dimensions, metadata,
       created_by_id, last_updated_by_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
returning {_COLUMNS}
"""


async def create(conn: Conn, archive: Archive) -> Archive:
    """Store a new archive that no agent has yet; return it with the times that the database gave it."""
    row = await conn.fetchrow(
        _INSERT,
        archive.id,
        archive.organization_id,
        archive.name,
        archive.description,
        archive.embedding,
        archive.dimensions,
        msgspec.json.encode(archive.metadata),
        archive.created_by_id,
    )
    assert row is not None
    return _archive(row)


_READ = f"select {_COLUMNS} from archives a"
_GET = _READ + " where a.id = $1 and a.organization_id = $2"


async def get(conn: Conn, archive_id: str, *, organization_id: str) -> Archive:
    """Return one archive.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    row = await conn.fetchrow(_GET, archive_id, organization_id)
    if row is None:
        raise NotFoundError("archive", archive_id)
    return _archive(row)


_NEWEST_MODEL = """
select embedding from archives
 where organization_id = $1 and embedding is not null
 order by created_at desc, id desc
 limit 1
"""


async def newest_model(conn: Conn, *, organization_id: str) -> str | None:
    """Return the model of the organisation's newest archive that has one: what a search over all goes by."""
    return await conn.fetchval(_NEWEST_MODEL, organization_id)


_UPDATE = f"""
update archives a
   set name = coalesce($3, a.name), description = case when $4 then $5 else a.description end,
       last_updated_by_id = coalesce($6, a.last_updated_by_id), updated_at = now()
 where a.id = $1 and a.organization_id = $2
returning {_COLUMNS}
"""


async def update(conn: Conn, archive_id: str, changes: ArchiveChanges, *, organization_id: str) -> Archive:
    """Change an archive and return it.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    row = await conn.fetchrow(
        _UPDATE,
        archive_id,
        organization_id,
        None if changes.name is msgspec.UNSET else changes.name,
        changes.description is not msgspec.UNSET,
        None if changes.description is msgspec.UNSET else changes.description,
        changes.last_updated_by_id,
    )
    if row is None:
        raise NotFoundError("archive", archive_id)
    return _archive(row)


_DELETE = "delete from archives where id = $1 and organization_id = $2 returning id"


async def delete(conn: Conn, archive_id: str, *, organization_id: str) -> None:
    """Delete an archive with its passages, and detach it everywhere.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    if await conn.fetchrow(_DELETE, archive_id, organization_id) is None:
        raise NotFoundError("archive", archive_id)


_BY_AGE = Order(
    columns=("a.created_at", "a.id"),
    cursor="select created_at, id from archives where id = $1 and organization_id = $2",
    noun="archive",
)


async def list_page(conn: Conn, page: Page, *, where: ArchiveFilter) -> list[Archive]:
    """Return a page of archives by age.

    Raises:
        NotFoundError: The cursor names no archive of the organisation.
    """
    select = Select(_READ).where("a.organization_id = {}", where.organization_id)
    if where.name is not None:
        select.where("a.name = {}", where.name)
    if where.agent_id is not None:
        select.where("a.id in (select archive_id from archives_agents where agent_id = {})", where.agent_id)
    rows = await select.page(conn, page, order=_BY_AGE, scope=where.organization_id)
    return [_archive(row) for row in rows]


class Holdings(Struct, frozen=True, kw_only=True):
    """What an agent has in archives: how many passages, and the model of the one that new ones go to."""

    passages: int = 0
    embedding: str | None = None


# The order is that of `_OF_AGENT`.
_HOLDINGS = """
select (select count(*) from archives_agents aa join passages p on p.archive_id = aa.archive_id
         where aa.agent_id = $1) as passages,
       (select a.embedding from archives_agents aa join archives a on a.id = aa.archive_id
         where aa.agent_id = $1
         order by aa.is_owner desc, aa.created_at, a.id limit 1) as embedding
"""


async def holdings(conn: Conn, agent_id: str) -> Holdings:
    """Return what an agent has in archives."""
    row = await conn.fetchrow(_HOLDINGS, agent_id)
    assert row is not None
    return Holdings(passages=row["passages"], embedding=row["embedding"])


# --- archives of an agent: written in the fenced transaction of its actor -------------------------

# Its own archive first; without one, what was attached first.
_OF_AGENT = f"""
select {_COLUMNS}
  from archives_agents aa join archives a on a.id = aa.archive_id
 where aa.agent_id = $1
 order by aa.is_owner desc, aa.created_at, a.id
"""


async def of_agent(conn: Conn, agent_id: str) -> list[Archive]:
    """Return the archives that an agent searches; the first is where its new memories go."""
    return [_archive(row) for row in await conn.fetch(_OF_AGENT, agent_id)]


_settings = msgspec.json.Decoder(AgentSettings)

# Nothing of the agent's window, which grows with its history: `agents.get` reads the ids of all of it.
_LIBRARY = """
select g.settings, (select a.embedding
                      from archives_agents aa join archives a on a.id = aa.archive_id
                     where aa.agent_id = g.id
                     order by aa.is_owner desc, aa.created_at, a.id limit 1) as embedding
  from agents g
 where g.id = $1 and g.organization_id = $2
"""


async def library_of(conn: Conn, agent_id: str, *, organization_id: str) -> Library:
    """Return how an agent's memories are embedded and dated; it costs the same however much it remembers.

    Raises:
        NotFoundError: The organisation has no such agent.
    """
    row = await conn.fetchrow(_LIBRARY, agent_id, organization_id)
    if row is None:
        raise NotFoundError("agent", agent_id)
    settings = _settings.decode(row["settings"])
    return Library(timezone=settings.timezone, embedding=row["embedding"] or settings.embedding)


_MAKE_OWN = f"""
with made as (
  insert into archives as a (id, organization_id, name, embedding, dimensions, created_by_id,
         last_updated_by_id)
  select 'archive-' || gen_random_uuid(), g.organization_id, g.name || '''s archive', $2, $3,
         g.created_by_id, g.created_by_id
    from agents g where g.id = $1
  returning {_COLUMNS}
), attached as (
  insert into archives_agents (agent_id, archive_id, is_owner) select $1, id, true from made
)
select * from made
"""


async def ensure_for_agent(
    conn: Conn, agent_id: str, *, embedding: str | None, dimensions: int | None
) -> Archive:
    """Return the archive that an agent's memories go to; make one that it owns, if it has none.

    `embedding` and `dimensions` are for an archive that has no model yet. Run it in the transaction of
    the agent's actor, or two callers may make two.

    Raises:
        NotFoundError: There is no such agent.
        ConflictError: Somebody else made one meanwhile (`agent_has_one_archive`).
    """
    held = await of_agent(conn, agent_id)
    if held:
        return await settle_model(conn, held[0], embedding=embedding, dimensions=dimensions)
    row = await conn.fetchrow(_MAKE_OWN, agent_id, embedding, dimensions)
    if row is None:
        raise NotFoundError("agent", agent_id)
    return _archive(row)


_SETTLE = f"""
update archives a set embedding = coalesce(a.embedding, $2), dimensions = $3
 where a.id = $1 and a.dimensions is null and (a.embedding is null or a.embedding = $2)
returning {_COLUMNS}
"""


async def settle_model(
    conn: Conn, archive: Archive, *, embedding: str | None, dimensions: int | None
) -> Archive:
    """Note the model of an archive's first vector and its length; a model that was chosen stays."""
    if embedding is None or dimensions is None or archive.dimensions is not None:
        return archive
    row = await conn.fetchrow(_SETTLE, archive.id, embedding, dimensions)
    return archive if row is None else _archive(row)


_ATTACH = """
insert into archives_agents (agent_id, archive_id)
select g.id, a.id from agents g join archives a on a.organization_id = g.organization_id
 where g.id = $1 and a.id = $2
on conflict (agent_id, archive_id) do nothing
returning archive_id
"""

_HAS = "select 1 from archives_agents where agent_id = $1 and archive_id = $2"


async def attach(conn: Conn, agent_id: str, archive_id: str) -> None:
    """Let an agent search an archive of its organisation. Attaching twice is no error.

    Raises:
        NotFoundError: There is no such archive.
    """
    attached = await conn.fetchrow(_ATTACH, agent_id, archive_id)
    if attached is None and await conn.fetchrow(_HAS, agent_id, archive_id) is None:
        raise NotFoundError("archive", archive_id)


_HOLDERS = "select agent_id from archives_agents where archive_id = $1"


async def holders(conn: Conn, archive_id: str) -> list[str]:
    """Return the ids of the agents that search an archive."""
    return [row["agent_id"] for row in await conn.fetch(_HOLDERS, archive_id)]


_DETACH = "delete from archives_agents where agent_id = $1 and archive_id = $2"


async def detach(conn: Conn, agent_id: str, archive_id: str) -> None:
    """Take an archive from an agent; it survives. Detaching what is not attached is no error."""
    await conn.execute(_DETACH, agent_id, archive_id)


# An archive that others were given as well survives its owner.
_DELETE_OWN = """
delete from archives a
 using archives_agents aa
 where aa.agent_id = $1 and aa.is_owner and a.id = aa.archive_id
   and not exists (select from archives_agents o where o.archive_id = a.id and o.agent_id <> $1)
"""


async def delete_own(conn: Conn, agent_id: str) -> None:
    """Delete the archive that an agent owns, with its passages, unless other agents hold it too."""
    await conn.execute(_DELETE_OWN, agent_id)


def _archive(row: Row) -> Archive:
    return Archive(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        description=row["description"],
        embedding=row["embedding"],
        dimensions=row["dimensions"],
        metadata=msgspec.json.decode(row["metadata"]),
        created_by_id=row["created_by_id"],
        last_updated_by_id=row["last_updated_by_id"],
    )
