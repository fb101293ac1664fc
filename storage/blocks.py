"""Memory blocks as rows: written by compare-and-set, and attached to any number of agents.

Here they are written directly. An edit in the name of one agent goes through that agent instead
(`storage.edits`), because its prompt follows from it.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from storage import edits
from storage.errors import NotFoundError, StaleBlocksError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import Block, BlockChanges

UPDATE_ATTEMPTS = 20  # a loser reloads and tries again: another writer won meanwhile, so somebody advances


class BlockFilter(Struct, frozen=True, kw_only=True):
    """Which blocks of an organisation; every filter that is given must hold.

    Hidden blocks match only in the list of an agent that holds them.
    """

    organization_id: str
    agent_id: str | None = None
    label: str | None = None
    tags: Sequence[str] | None = None
    match_all_tags: bool = False
    project_id: str | None = None
    templates_only: bool = False
    template_name: str | None = None
    label_search: str | None = None
    description_search: str | None = None
    value_search: str | None = None
    more_agents_than: int | None = None
    fewer_agents_than: int | None = None
    agent_counts: Sequence[int] | None = None


_COLUMNS = """id, organization_id, label, value, limit_chars, description, read_only, metadata, hidden, tags,
       project_id, template, created_by_id, last_updated_by_id"""

# One row for each element of a JSON array of records.Block; the database sets the times.
_INSERT = f"""
insert into blocks ({_COLUMNS})
select {_COLUMNS}
  from jsonb_populate_recordset(null::blocks, $1::jsonb)
returning created_at
"""  # noqa: S608 - constants only


async def create(conn: Conn, block: Block) -> Block:
    """Store a new block; return it with the times that the database gave it."""
    at = await conn.fetchval(_INSERT, msgspec.json.encode((block,)))
    return msgspec.structs.replace(block, created_at=at, updated_at=at)


_READ = """
select b.id, b.organization_id, b.label, b.value, b.limit_chars, b.description, b.read_only, b.metadata,
       b.hidden, b.tags, b.project_id, b.template, b.version, b.created_at, b.updated_at, b.created_by_id,
       b.last_updated_by_id
  from blocks b
"""

_GET = _READ + " where b.id = $1 and b.organization_id = $2"


async def get(conn: Conn, block_id: str, *, organization_id: str) -> Block:
    """Return one block.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    row = await conn.fetchrow(_GET, block_id, organization_id)
    if row is None:
        raise NotFoundError("block", block_id)
    return _block(row)


_GET_MANY = _READ + " where b.id = any ($1::text[]) and b.organization_id = $2"


async def get_many(conn: Conn, block_ids: Sequence[str], *, organization_id: str) -> list[Block]:
    """Return these blocks, in this order.

    Raises:
        NotFoundError: One of them does not exist; names the first.
    """
    rows = await conn.fetch(_GET_MANY, list(block_ids), organization_id)
    found = {row["id"]: _block(row) for row in rows}
    for block_id in block_ids:
        if block_id not in found:
            raise NotFoundError("block", block_id)
    return [found[block_id] for block_id in block_ids]


_GET_BY_LABEL = (
    _READ
    + """
  join agents_blocks ab on ab.block_id = b.id
 where ab.agent_id = $1 and ab.label = $2 and b.organization_id = $3
"""
)


async def get_by_label(conn: Conn, agent_id: str, label: str, *, organization_id: str) -> Block:
    """Return an agent's block by its label.

    Raises:
        NotFoundError: The agent has no block with this label, or does not exist.
    """
    row = await conn.fetchrow(_GET_BY_LABEL, agent_id, label, organization_id)
    if row is None:
        raise NotFoundError("block", label)
    return _block(row)


async def update(conn: Conn, block_id: str, changes: BlockChanges, *, organization_id: str) -> Block:
    """Apply `changes` by compare-and-set and return the block as committed. Run it in a transaction.

    Raises:
        NotFoundError: The organisation has none with this id.
        ConflictError: The new label is taken on an agent that holds the block.
        StaleBlocksError: Others won every one of `UPDATE_ATTEMPTS` races.
    """
    for _ in range(UPDATE_ATTEMPTS):
        block = await get(conn, block_id, organization_id=organization_id)
        if await edits.update_block(conn, block_id, version=block.version, changes=changes):
            return await get(conn, block_id, organization_id=organization_id)
    raise StaleBlocksError("", (block_id,))


_DELETE = "delete from blocks where id = $1 and organization_id = $2 returning id"


async def delete(conn: Conn, block_id: str, *, organization_id: str) -> None:
    """Delete a block and detach it everywhere.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    if await conn.fetchrow(_DELETE, block_id, organization_id) is None:
        raise NotFoundError("block", block_id)


_BY_AGE = Order(
    columns=("b.created_at", "b.id"),
    cursor="select created_at, id from blocks where id = $1 and organization_id = $2",
    noun="block",
)


async def list_page(conn: Conn, page: Page, *, where: BlockFilter) -> list[Block]:
    """Return a page of blocks by age.

    Raises:
        NotFoundError: The cursor names no block of the organisation.
    """
    select = _filtered(_READ, where)
    return [_block(row) for row in await select.page(conn, page, order=_BY_AGE, scope=where.organization_id)]


async def count(conn: Conn, *, where: BlockFilter) -> int:
    """Return how many blocks match."""
    return await _filtered("select count(*) from blocks b", where).value(conn)


_HOLDERS = "(select count(*) from agents_blocks ab where ab.block_id = b.id)"


def _filtered(head: str, where: BlockFilter) -> Select:
    select = Select(head).where("b.organization_id = {}", where.organization_id)
    if where.agent_id is None:
        select.where("not b.hidden")
    else:
        select.where("b.id in (select block_id from agents_blocks where agent_id = {})", where.agent_id)
    if where.label is not None:
        select.where("b.label = {}", where.label)
    if where.tags is not None:
        select.where("b.tags @> {}" if where.match_all_tags else "b.tags && {}", list(where.tags))
    if where.project_id is not None:
        select.where("b.project_id = {}", where.project_id)
    if where.templates_only:
        select.where("b.template @> '{{\"is_template\": true}}'")
    if where.template_name is not None:
        select.where("b.template ->> 'template_name' = {}", where.template_name)
    return _counted(_searched(select, where), where)


def _searched(select: Select, where: BlockFilter) -> Select:
    if where.label_search is not None:
        select.where("strpos(lower(b.label), lower({}::text)) > 0", where.label_search)
    if where.description_search is not None:
        select.where("strpos(lower(b.description), lower({}::text)) > 0", where.description_search)
    if where.value_search is not None:
        select.where("strpos(lower(b.value), lower({}::text)) > 0", where.value_search)
    return select


def _counted(select: Select, where: BlockFilter) -> Select:
    if where.more_agents_than is not None:
        select.where(_HOLDERS + " > {}", where.more_agents_than)
    if where.fewer_agents_than is not None:
        select.where(_HOLDERS + " < {}", where.fewer_agents_than)
    if where.agent_counts is not None:
        select.where(_HOLDERS + " = any ({}::bigint[])", list(where.agent_counts))
    return select


def _block(row: Row) -> Block:
    return Block(
        id=row["id"],
        organization_id=row["organization_id"],
        label=row["label"],
        value=row["value"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        limit_chars=row["limit_chars"],
        description=row["description"],
        read_only=row["read_only"],
        metadata=msgspec.json.decode(row["metadata"]),
        hidden=row["hidden"],
        tags=tuple(row["tags"]),
        project_id=row["project_id"],
        template=msgspec.json.decode(row["template"]),
        version=row["version"],
        created_by_id=row["created_by_id"],
        last_updated_by_id=row["last_updated_by_id"],
    )
