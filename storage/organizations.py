"""Organisations: the scope of every row. One exists from the start."""

from storage.errors import NotFoundError
from storage.pool import Conn

_CREATE = "insert into organizations (id, name) values ($1, $2) on conflict (id) do nothing"


async def create(conn: Conn, organization_id: str, *, name: str) -> None:
    """Add an organisation. Adding it again changes nothing."""
    await conn.execute(_CREATE, organization_id, name)


_NAME = "select name from organizations where id = $1"


async def name_of(conn: Conn, organization_id: str) -> str:
    """Return the organisation's name.

    Raises:
        NotFoundError: There is none with this id.
    """
    name = await conn.fetchval(_NAME, organization_id)
    if name is None:
        raise NotFoundError("organization", organization_id)
    return name
