"""Organisations."""

from datetime import UTC, datetime

import anyio
import pytest

from actors import clock
from storage import blocks, organizations
from storage.blocks import BlockFilter
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection, open_pool
from storage.records import DEFAULT_ORGANIZATION, Block

OTHER = "org-00000000-0000-4000-8000-00000000000b"


async def name_of(conn: Conn, organization_id: str) -> str | None:
    return await conn.fetchval("select name from organizations where id = $1", organization_id)


async def test_one_organisation_exists_from_the_start(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert await name_of(conn, DEFAULT_ORGANIZATION) == "default"


async def test_creating_an_organisation_again_changes_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        await organizations.create(conn, OTHER, name="first")
        await organizations.create(conn, OTHER, name="second")
        assert await name_of(conn, OTHER) == "first"


async def test_two_organisations_on_one_connection_never_see_each_other(dsn: str) -> None:
    """Nothing of who asked stays behind on the connection, not even of those who were cut short."""
    pool = await open_pool(dsn, size=1)
    try:
        async with connection(pool) as conn:
            await organizations.create(conn, OTHER, name="b")
        own = {org: await _block_of(pool, org) for org in (DEFAULT_ORGANIZATION, OTHER)}
        looks = 0

        async def look(number: int) -> None:
            nonlocal looks
            org, foreign = (OTHER, DEFAULT_ORGANIZATION)[:: 1 if number % 2 else -1]
            with anyio.move_on_after(0.001 if number % 5 == 0 else 20):
                async with connection(pool) as conn, conn.transaction():
                    where = BlockFilter(organization_id=org)
                    assert [b.id for b in await blocks.list_page(conn, Page(), where=where)] == [own[org]]
                    with pytest.raises(NotFoundError):
                        await blocks.get(conn, own[foreign], organization_id=org)
                    looks += 1

        async with anyio.create_task_group() as lookers:
            for number in range(200):
                lookers.start_soon(look, number)
        assert looks >= 160, "only a fifth was cut short"
    finally:
        await pool.close()


async def _block_of(pool: Pool, organization_id: str) -> str:
    now = datetime.now(UTC)
    block = Block(
        id=clock.new_id("block"),
        organization_id=organization_id,
        label="human",
        value="v",
        created_at=now,
        updated_at=now,
    )
    async with connection(pool) as conn:
        return (await blocks.create(conn, block)).id
