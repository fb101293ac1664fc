"""Passages: stored with their vectors, listed by age, found by meaning, by words and by both."""

import math
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from storage import archives, passages
from storage.errors import ConflictError, NotFoundError, RefusedError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection, open_pool
from storage.records import DEFAULT_ORGANIZATION
from tests.storage import libraries, seeds
from tests.storage.libraries import BEGINNING, MODEL, angle, found, passage

OTHERS = "org-00000000-0000-4000-8000-00000000000f"


@pytest.fixture(params=["with pgvector", "absent", "forbidden"])
async def conn(request: pytest.FixtureRequest, dsn: str, empty_dsn: str) -> AsyncGenerator[Conn]:
    """Yield a connection to a database with pgvector, and to two that were migrated without it."""
    if request.param == "with pgvector":
        pool = await open_pool(dsn, size=1)
        async with connection(pool) as conn:
            assert conn.has_vectors
            yield conn
        await pool.close()
        return
    async with libraries.without_pgvector(empty_dsn, request.param) as pool_or_none:
        if pool_or_none is None:
            pytest.skip("the server cannot be made to miss an extension")
        async with connection(pool_or_none) as conn:
            assert not conn.has_vectors
            yield conn


async def test_a_passage_comes_back_as_it_was_stored(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    (stored,) = await passages.insert_for_agent(conn, agent, [passage("x", 30, tags=("a", "b"))])
    read = await passages.get(conn, stored.id, organization_id=DEFAULT_ORGANIZATION)
    assert read.vector == pytest.approx(stored.vector, abs=1e-6)
    assert replace(read, vector=None) == replace(stored, vector=None)
    (archive,) = await archives.of_agent(conn, agent)
    assert (read.archive_id, archive.embedding, archive.dimensions) == (archive.id, MODEL, 384)
    with pytest.raises(NotFoundError):
        await passages.get(conn, stored.id, organization_id=OTHERS)


async def test_meaning_finds_the_nearest_first(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    await passages.insert_for_agent(conn, agent, [passage(str(d), d) for d in (90, 10, 40, 170)])
    assert await found(conn, agent, degrees=12) == ["10", "40", "90", "170"]
    assert await found(conn, agent, degrees=95, limit=2) == ["90", "40"]
    hits = await passages.search(
        conn,
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent,
        vector=angle(10),
        embedding_model=MODEL,
    )
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert hits[1].score == pytest.approx(math.cos(math.radians(30)), abs=1e-6)
    assert [(h.search_mode, h.vector_rank, h.fts_rank) for h in hits[:2]] == [
        ("vector", 1, None),
        ("vector", 2, None),
    ]


async def test_words_lift_what_is_near_above_what_is_a_little_nearer(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    written = [passage("the invoice INV-2041 is open", 20), passage("nothing of the kind", 10)]
    await passages.insert_for_agent(conn, agent, written)
    assert await found(conn, agent, degrees=0) == ["nothing of the kind", "the invoice INV-2041 is open"]
    assert (await found(conn, agent, "what about INV-2041?", degrees=0))[0] == written[0].text
    hits = await passages.search(
        conn,
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent,
        query="INV-2041",
        vector=angle(0),
        embedding_model=MODEL,
    )
    assert [(h.search_mode, h.vector_rank, h.fts_rank) for h in hits] == [
        ("hybrid", 2, 1),
        ("hybrid", 1, None),
    ]


async def test_words_alone_find_what_has_no_vector(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    written = [
        passage("Her sister plays the violin", day=1),
        passage("She plays chess on Sundays", day=2),
        passage("The dentist is Dr. O'Neill \\ Partner", day=3),
    ]
    await passages.insert_for_agent(conn, agent, written)
    assert await found(conn, agent, "who is playing a violin?") == [written[0].text, written[1].text]
    assert await found(conn, agent, "O'Neill \\") == [written[2].text]
    assert await found(conn, agent, "chess", degrees=0) == [written[1].text]
    assert await found(conn, agent, "the of and is") == []


async def test_rare_words_count_more_than_frequent_ones(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    crowd = [passage(f"coffee coffee coffee number {n}") for n in range(20)]
    await passages.insert_for_agent(conn, agent, [*crowd, passage("a saffron bun")])
    assert (await found(conn, agent, "coffee with saffron"))[0] == "a saffron bun"


async def test_a_query_nobody_wrote_as_words_is_found_within_them(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    await passages.insert_for_agent(conn, agent, [passage("我喜欢绿茶和咖啡"), passage("100%_sure")])
    assert await found(conn, agent, "绿茶") == ["我喜欢绿茶和咖啡"]
    assert await found(conn, agent, "0%_s") == ["100%_sure"]
    assert await found(conn, agent, "%") == ["100%_sure"]


async def test_vectors_of_different_models_are_never_compared(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    written = [
        passage("same model", 80),
        passage("other model of this length", 0, model="test/other"),
        passage("longer vector", 0, model="test/long", dimensions=512),
    ]
    await passages.insert_for_agent(conn, agent, written)
    assert await found(conn, agent, degrees=0) == ["same model"]
    assert await found(conn, agent, degrees=0, model="test/other") == ["other model of this length"]
    assert await found(conn, agent, degrees=0, model="test/long", dimensions=512) == ["longer vector"]
    assert await found(conn, agent, "longer", degrees=180) == ["longer vector", "same model"]


async def test_a_vector_of_zeros_stands_nowhere(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    zeros = replace(passage("of zeros", 0), vector=(0.0,) * 384)
    await passages.insert_for_agent(conn, agent, [zeros, passage("of one", 0)])
    assert await found(conn, agent, degrees=0) == ["of one"]
    assert await found(conn, agent, "zeros") == ["of zeros"]
    hits = await passages.search(
        conn,
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent,
        query="zeros",
        vector=[0.0] * 384,
        embedding_model=MODEL,
    )
    assert [(h.passage.text, h.search_mode) for h in hits] == [("of zeros", "fts")]


@pytest.mark.parametrize("vector", [(math.inf, 0.0), (math.nan, 0.0), (1e300, 0.0), (1.0,) * 16_001])
async def test_a_vector_that_is_none_is_refused_and_nothing_is_stored(
    pool: Pool, vector: tuple[float, ...]
) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
    bad = replace(passage("bad", 0), vector=vector)
    with pytest.raises(RefusedError):
        async with connection(pool) as conn:
            await passages.insert_for_agent(conn, agent, [passage("good", 0), bad])
    async with connection(pool) as conn:
        assert await passages.count(conn, agent) == 0


async def test_tags_and_dates_narrow_every_kind_of_search(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    written = [
        passage("tea one", 0, day=1, tags=("a",)),
        passage("tea two", 10, day=2, tags=("a", "b")),
        passage("tea three", 20, day=3, tags=("c",)),
    ]
    await passages.insert_for_agent(conn, agent, written)
    for query, degrees in ((None, 0), ("tea", 0), ("tea", None), (None, None), ("ea", None)):
        assert set(await found(conn, agent, query, degrees, tags=["a", "c"])) == {p.text for p in written}
        both = await found(conn, agent, query, degrees, tags=["b", "a"], match_all_tags=True)
        assert both == ["tea two"]
        day = BEGINNING + timedelta(days=2)
        assert await found(conn, agent, query, degrees, start=day, end=day) == ["tea two"]
        assert await found(conn, agent, query, degrees, start=day + timedelta(seconds=1)) == ["tea three"]
        assert await found(conn, agent, query, degrees, end=day, tags=["c"]) == []


async def test_without_anything_to_look_for_the_newest_come(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    await passages.insert_for_agent(conn, agent, [passage(str(day), day=day) for day in (2, 1, 3)])
    assert await found(conn, agent, limit=2) == ["3", "2"]
    assert await found(conn, agent, "   ", limit=1) == ["3"]


async def test_a_search_stays_in_its_archives_and_its_organisation(conn: Conn) -> None:
    one, other = await seeds.agent(conn), await seeds.agent(conn)
    await passages.insert_for_agent(conn, one, [passage("tea of one", 0)])
    await passages.insert_for_agent(conn, other, [passage("tea of other", 0)])
    (mine,) = await archives.of_agent(conn, one)
    for query, vector in (("tea", None), (None, angle(0)), ("tea", angle(0)), (None, None)):

        async def texts(organization_id: str = DEFAULT_ORGANIZATION, **scope: object) -> set[str]:
            hits = await passages.search(
                conn,
                organization_id=organization_id,
                query=query,  # noqa: B023 - called in this round only
                vector=vector,  # noqa: B023
                embedding_model=MODEL,
                **scope,  # type: ignore[arg-type]
            )
            return {hit.passage.text for hit in hits}

        assert await texts(agent_id=one) == {"tea of one"}
        assert await texts(archive_ids=[mine.id]) == {"tea of one"}
        assert await texts(archive_ids=[mine.id], agent_id=other) == set()
        assert await texts(archive_ids=[]) == set()
        assert await texts() == {"tea of one", "tea of other"}
        assert await texts(OTHERS) == set()
        assert await texts(OTHERS, agent_id=one) == set()


async def test_the_passages_of_an_agent_are_listed_by_age_over_all_its_archives(conn: Conn) -> None:
    agent = await seeds.agent(conn)
    shared = await libraries.archive(conn)
    await archives.ensure_for_agent(conn, agent, embedding=None, dimensions=None)
    await archives.attach(conn, agent, shared.id)
    mine = await passages.insert_for_agent(conn, agent, [passage(str(d), day=d) for d in (0, 2, 4)])
    theirs = [passage(str(d), day=d, archive_id=shared.id) for d in (1, 3)]
    await passages.insert_into(conn, shared, theirs)
    ids = {p.text: p.id for p in (*mine, *theirs)}

    async def listed(search: str | None = None, **page: object) -> str:
        found = await passages.list_page(
            conn,
            Page(**page),  # type: ignore[arg-type]
            agent_id=agent,
            organization_id=DEFAULT_ORGANIZATION,
            search=search,
        )
        return "".join(p.text for p in found)

    assert await listed(descending=False) == "01234"
    assert await listed(limit=2) == "43"
    assert await listed(after=ids["3"], limit=2) == "21"
    assert await listed(after=ids["1"], descending=False) == "234"
    assert await listed(before=ids["3"], descending=False, limit=2) == "12"
    assert await listed(before=ids["0"], limit=2) == "21"
    assert await listed(after=ids["0"], before=ids["3"], descending=False) == "12"
    assert await listed(search="3") == "3"
    assert await passages.count(conn, agent) == 5
    with pytest.raises(NotFoundError):
        await listed(after="passage-x")


async def test_a_passage_is_deleted_where_it_belongs(conn: Conn) -> None:
    one, other = await seeds.agent(conn), await seeds.agent(conn)
    (mine,) = await passages.insert_for_agent(conn, one, [passage("x")])
    with pytest.raises(NotFoundError):
        await passages.delete_of_agent(conn, other, mine.id)
    with pytest.raises(NotFoundError):
        await passages.delete(conn, mine.id, archive_id=mine.archive_id, organization_id=OTHERS)
    assert await passages.delete_of_agent(conn, one, mine.id) == mine.archive_id
    with pytest.raises(NotFoundError):
        await passages.delete(conn, mine.id, archive_id=mine.archive_id, organization_id=DEFAULT_ORGANIZATION)


async def test_a_passage_of_an_archive_that_is_gone_is_refused(pool: Pool) -> None:
    with pytest.raises(ConflictError, match="passage_has_an_archive"):
        async with connection(pool) as conn:
            await passages.insert(conn, [passage("x", archive_id="archive-x")])


@pytest.mark.parametrize("word", ["word ", "слово", "\U00010330\U00010331 "])
async def test_a_passage_of_any_length_and_script_is_stored(pool: Pool, word: str) -> None:
    text = word * 40_000
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await passages.insert_for_agent(conn, agent, [passage(text)])
        same = (await found(conn, agent, word)) == [text]  # not in the assertion: it would be printed
    assert same
