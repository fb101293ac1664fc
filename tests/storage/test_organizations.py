"""Organisations."""

import pytest

from storage import organizations
from storage.errors import NotFoundError
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION

OTHER = "org-00000000-0000-4000-8000-00000000000b"


async def test_one_organisation_exists_from_the_start(pool: Pool) -> None:
    async with connection(pool) as conn:
        assert await organizations.name_of(conn, DEFAULT_ORGANIZATION) == "default"


async def test_creating_an_organisation_again_changes_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        await organizations.create(conn, OTHER, name="first")
        await organizations.create(conn, OTHER, name="second")
        assert await organizations.name_of(conn, OTHER) == "first"


async def test_an_unknown_organisation_is_not_found(pool: Pool) -> None:
    async with connection(pool) as conn:
        with pytest.raises(NotFoundError):
            await organizations.name_of(conn, OTHER)
