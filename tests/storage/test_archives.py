"""Archives: made, found, shared among agents, and one of its own for each agent that remembers."""

import msgspec
import pytest

from storage import archives, passages
from storage.archive_records import ArchiveChanges
from storage.archives import ArchiveFilter, Holdings, Library
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from tests.storage import libraries, seeds

OTHERS = "org-00000000-0000-4000-8000-00000000000f"


async def test_an_archive_is_stored_changed_and_deleted(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = await libraries.archive(conn, "first")
        assert await archives.get(conn, made.id, organization_id=DEFAULT_ORGANIZATION) == made
        changed = await archives.update(
            conn, made.id, ArchiveChanges(description="why"), organization_id=DEFAULT_ORGANIZATION
        )
        assert (changed.name, changed.description) == ("first", "why")
        cleared = await archives.update(
            conn, made.id, ArchiveChanges(name="n", description=None), organization_id=DEFAULT_ORGANIZATION
        )
        assert (cleared.name, cleared.description) == ("n", None)
        await archives.delete(conn, made.id, organization_id=DEFAULT_ORGANIZATION)
        with pytest.raises(NotFoundError):
            await archives.delete(conn, made.id, organization_id=DEFAULT_ORGANIZATION)


async def test_archives_of_another_organisation_do_not_exist(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = await libraries.archive(conn)
        for call in (
            archives.get(conn, made.id, organization_id=OTHERS),
            archives.update(conn, made.id, ArchiveChanges(name="x"), organization_id=OTHERS),
            archives.delete(conn, made.id, organization_id=OTHERS),
        ):
            with pytest.raises(NotFoundError):
                await call
        where = ArchiveFilter(organization_id=OTHERS)
        assert await archives.list_page(conn, Page(), where=where) == []


async def test_archives_are_listed_by_age_name_and_agent(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        made = [await libraries.archive(conn, f"a{n}") for n in range(3)]
        await archives.attach(conn, agent, made[1].id)
        where = ArchiveFilter(organization_id=DEFAULT_ORGANIZATION)
        assert await archives.list_page(conn, Page(limit=2), where=where) == [made[2], made[1]]
        older = await archives.list_page(conn, Page(after=made[1].id), where=where)
        assert older == [made[0]]
        of_agent = ArchiveFilter(organization_id=DEFAULT_ORGANIZATION, agent_id=agent)
        assert await archives.list_page(conn, Page(), where=of_agent) == [made[1]]
        named = ArchiveFilter(organization_id=DEFAULT_ORGANIZATION, name="a2")
        assert await archives.list_page(conn, Page(), where=named) == [made[2]]
        with pytest.raises(NotFoundError):
            await archives.list_page(conn, Page(after="archive-x"), where=where)


async def test_an_agent_gets_an_archive_of_its_own_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        assert await archives.holdings(conn, agent) == Holdings()
        made = await archives.ensure_for_agent(conn, agent, embedding=None, dimensions=None)
        assert made.name == "a's archive"
        again = await archives.ensure_for_agent(conn, agent, embedding="m", dimensions=3)
        assert (again.id, again.embedding, again.dimensions) == (made.id, "m", 3)
        later = await archives.ensure_for_agent(conn, agent, embedding="other", dimensions=9)
        assert (later.embedding, later.dimensions) == ("m", 3)
        assert await archives.holdings(conn, agent) == Holdings(passages=0, embedding="m")
        with pytest.raises(NotFoundError):
            await archives.ensure_for_agent(conn, "agent-x", embedding=None, dimensions=None)


async def test_an_agent_without_its_own_archive_writes_to_the_one_attached_first(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        first, second = [await libraries.archive(conn, name) for name in "ab"]
        await archives.attach(conn, agent, first.id)
        await archives.attach(conn, agent, second.id)
        await archives.attach(conn, agent, second.id)
        chosen = await archives.ensure_for_agent(conn, agent, embedding=None, dimensions=None)
        assert chosen.id == first.id
        await archives.detach(conn, agent, first.id)
        await archives.detach(conn, agent, first.id)
        assert await archives.of_agent(conn, agent) == [second]
        assert await archives.holders(conn, second.id) == [agent]
        with pytest.raises(NotFoundError):
            await archives.attach(conn, agent, "archive-x")


async def test_what_a_search_needs_of_an_agent_is_its_archive_s_model_or_its_own_choice(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        chosen = {"model": "m", "system": "s", "embedding": "test/own", "timezone": "Europe/Vienna"}
        await conn.execute(
            "update agents set settings = $2 where id = $1", agent, msgspec.json.encode(chosen)
        )
        library = await archives.library_of(conn, agent, organization_id=DEFAULT_ORGANIZATION)
        assert library == Library(timezone="Europe/Vienna", embedding="test/own")
        await archives.ensure_for_agent(conn, agent, embedding=None, dimensions=None)
        assert await archives.library_of(conn, agent, organization_id=DEFAULT_ORGANIZATION) == library
        await archives.ensure_for_agent(conn, agent, embedding="test/settled", dimensions=3)
        library = await archives.library_of(conn, agent, organization_id=DEFAULT_ORGANIZATION)
        assert library.embedding == "test/settled"
        with pytest.raises(NotFoundError):
            await archives.library_of(conn, agent, organization_id=OTHERS)


async def test_a_model_that_was_chosen_stays(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = await libraries.archive(conn, embedding="chosen")
        other = await archives.settle_model(conn, made, embedding="other", dimensions=3)
        assert (other.embedding, other.dimensions) == ("chosen", None)
        same = await archives.settle_model(conn, made, embedding="chosen", dimensions=4)
        assert (same.embedding, same.dimensions) == ("chosen", 4)


async def test_an_archive_that_others_hold_survives_its_owner(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, other = await seeds.agent(conn), await seeds.agent(conn)
        for agent in (one, other):
            await passages.insert_for_agent(conn, agent, [libraries.passage("x")])
        (shared,) = await archives.of_agent(conn, one)
        await archives.attach(conn, other, shared.id)
        await archives.delete_own(conn, one)
        await archives.delete_own(conn, other)
        assert [a.id for a in await archives.of_agent(conn, other)] == [shared.id]
        assert await conn.fetchval("select count(*) from passages") == 1
