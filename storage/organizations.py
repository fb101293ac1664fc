"""Organisations: the scope of every row. One exists from the start."""

from storage.pool import Conn

_CREATE = "insert into organizations (id, name) values ($1, $2) on conflict (id) do nothing"


async def create(conn: Conn, organization_id: str, *, name: str) -> None:
    """Add an organisation. Adding it again changes nothing."""
    await conn.execute(_CREATE, organization_id, name)
