"""Tools as rows: the built-in ones are seeded for every organisation, and agents hold them by id."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import JsonObject, Tool


class Spec(Protocol):
    """A built-in tool as its definition has it."""

    @property
    def name(self) -> str: ...
    @property
    def tool_type(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def json_schema(self) -> JsonObject: ...
    @property
    def return_char_limit(self) -> int: ...


class ToolFilter(Struct, frozen=True, kw_only=True):
    """Which tools of an organisation; every filter that is given must hold."""

    organization_id: str
    agent_id: str | None = None
    name: str | None = None
    names: Sequence[str] | None = None
    tool_ids: Sequence[str] | None = None
    search: str | None = None
    tool_types: Sequence[str] | None = None
    exclude_tool_types: Sequence[str] | None = None
    built_in_only: bool = False


# A tool keeps its id when a release changes its definition: agents hold it by that id. A row that is
# already right is not written, so that a restart touches nothing.
_SEED = """
insert into tools (id, organization_id, name, tool_type, description, json_schema, tags, return_char_limit)
select 'tool-' || gen_random_uuid(), o.id, s.name, s.tool_type, s.description, s.json_schema,
       array[s.tool_type], s.return_char_limit
  from organizations o
  cross join jsonb_to_recordset($1::jsonb) as s (
    name text, tool_type text, description text, json_schema jsonb, return_char_limit int)
on conflict on constraint tool_name_is_unique do update
   set tool_type = excluded.tool_type, description = excluded.description,
       json_schema = excluded.json_schema, tags = excluded.tags,
       return_char_limit = excluded.return_char_limit, updated_at = now()
 where (tools.tool_type, tools.description, tools.json_schema, tools.return_char_limit)
    is distinct from
       (excluded.tool_type, excluded.description, excluded.json_schema, excluded.return_char_limit)
"""


async def seed(conn: Conn, specs: Iterable[Spec]) -> None:
    """Give every organisation these built-in tools as they are defined now. Safe to repeat."""
    rows = [
        {
            "name": spec.name,
            "tool_type": spec.tool_type,
            "description": spec.description,
            "json_schema": spec.json_schema,
            "return_char_limit": spec.return_char_limit,
        }
        for spec in specs
    ]
    await conn.execute(_SEED, msgspec.json.encode(rows))


_READ = """
select t.id, t.organization_id, t.name, t.tool_type, t.description, t.json_schema, t.tags,
       t.return_char_limit, t.default_requires_approval, t.created_at, t.updated_at
  from tools t
"""

_GET = _READ + " where t.id = $1 and t.organization_id = $2"


async def get(conn: Conn, tool_id: str, *, organization_id: str) -> Tool:
    """Return one tool.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    row = await conn.fetchrow(_GET, tool_id, organization_id)
    if row is None:
        raise NotFoundError("tool", tool_id)
    return _tool(row)


_SET_DEFAULT = """
update tools t set default_requires_approval = $3, updated_at = now()
 where t.id = $1 and t.organization_id = $2
   and t.default_requires_approval is distinct from $3
"""


async def set_default_approval(
    conn: Conn, tool_id: str, required: bool | None, *, organization_id: str
) -> Tool:
    """Say whether agents that are given the tool from now on ask before they call it; return the tool.

    Raises:
        NotFoundError: The organisation has none with this id.
    """
    await conn.execute(_SET_DEFAULT, tool_id, organization_id, required)
    return await get(conn, tool_id, organization_id=organization_id)


_BY_AGE = Order(
    columns=("t.created_at", "t.id"),
    cursor="select created_at, id from tools where id = $1 and organization_id = $2",
    noun="tool",
)


_NAMES = "select name from tools where organization_id = $1 and id = any ($2::text[])"


async def names(conn: Conn, tool_ids: Iterable[str], *, organization_id: str) -> list[str]:
    """Return the names of those tools that exist."""
    return [row["name"] for row in await conn.fetch(_NAMES, organization_id, list(tool_ids))]


async def list_page(conn: Conn, page: Page, *, where: ToolFilter) -> list[Tool]:
    """Return a page of tools by age.

    Raises:
        NotFoundError: The cursor names no tool of the organisation.
    """
    select = _filtered(_READ, where)
    return [_tool(row) for row in await select.page(conn, page, order=_BY_AGE, scope=where.organization_id)]


async def count(conn: Conn, *, where: ToolFilter) -> int:
    """Return how many tools match."""
    return await _filtered("select count(*) from tools t", where).value(conn)


def _filtered(head: str, where: ToolFilter) -> Select:
    select = Select(head).where("t.organization_id = {}", where.organization_id)
    if where.agent_id is not None:
        select.where("t.id in (select tool_id from agents_tools where agent_id = {})", where.agent_id)
    if where.name is not None:
        select.where("t.name = {}", where.name)
    if where.names is not None:
        select.where("t.name = any ({}::text[])", list(where.names))
    if where.tool_ids is not None:
        select.where("t.id = any ({}::text[])", list(where.tool_ids))
    if where.search is not None:
        select.where("strpos(lower(t.name), lower({}::text)) > 0", where.search)
    if where.tool_types is not None:
        select.where("t.tool_type = any ({}::text[])", list(where.tool_types))
    if where.exclude_tool_types is not None:
        select.where("t.tool_type <> all ({}::text[])", list(where.exclude_tool_types))
    if where.built_in_only:
        select.where("starts_with(t.tool_type, 'letta_')")
    return select


def _tool(row: Row) -> Tool:
    return Tool(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        tool_type=row["tool_type"],
        description=row["description"],
        json_schema=msgspec.json.decode(row["json_schema"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tags=tuple(row["tags"]),
        return_char_limit=row["return_char_limit"],
        default_requires_approval=row["default_requires_approval"],
    )
