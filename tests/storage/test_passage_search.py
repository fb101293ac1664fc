"""The statements of searches: what they read, and what of a query they take literally."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import archives, passage_search, passage_statistics, passage_words, passages
from storage.passage_search import Where
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from tests.storage import libraries, seeds
from tests.storage.libraries import MODEL, angle, found, passage


@given(st.text())
def test_any_text_is_a_pattern_of_itself(text: str) -> None:
    pattern = passage_search.containing(text)
    assert pattern[0] == pattern[-1] == "%"
    inside = pattern[1:-1].replace("\\\\", "").replace("\\%", "").replace("\\_", "")
    assert not set(inside) & set("%_\\\0")


@pytest.mark.parametrize(
    ("dimensions", "expression"),
    [(2, "e::vector(2)"), (2000, "e::vector(2000)"), (2001, "e::halfvec(2001)"), (4001, None)],
)
def test_vectors_are_indexed_up_to_what_pgvector_can(dimensions: int, expression: str | None) -> None:
    assert passage_search.indexed("e", dimensions) == expression


async def plan(conn: Conn, agent_id: str, query: str, *, dimensions: int = 384) -> str:
    """Return how a search is run, with what was executed."""
    where = Where(organization_id=DEFAULT_ORGANIZATION, agent_id=agent_id)
    statement, arguments = passage_search.by_meaning(
        where,
        "p.id, p.text, p.created_at",
        query,
        angle(7, dimensions),
        MODEL,
        3,
        typed=True,
        common=await passage_statistics.read(conn, least=passage_words.COMMON),
    )
    async with conn.transaction():
        # So few rows are read faster without any index; a full table is not.
        await conn.execute("set local enable_seqscan = off; set local enable_sort = off")
        rows = await conn.fetch(f"explain (analyze, costs off, timing off) {statement}", *arguments)
    return "\n".join(row[0] for row in rows)


def scans(text: str, index: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if index in line]


def looked_up(text: str) -> int:
    """Return how many words were looked up."""
    line = scans(text, "CTE Scan on asked")[0]
    return round(float(line.partition("rows=")[2].split()[0]))


def read_for_words(text: str) -> int:
    """Return how many passages were read for all words together."""
    line = next(line for line in text.partition("CTE heard")[2].splitlines() if "Limit" in line)
    rows, loops = (float(line.partition(f"{name}=")[2].split()[0].rstrip(")")) for name in ("rows", "loops"))
    return round(rows * loops)


async def test_few_passages_are_compared_one_by_one_and_many_by_index(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await passages.insert_for_agent(conn, agent, [passage(f"n{d}", d) for d in range(0, 90, 3)])
        exact = await found(conn, agent, degrees=7)
        (line,) = scans(await plan(conn, agent, "n1"), "passages_by_meaning_384")
        assert "never executed" in line
        monkeypatch.setattr(passage_search, "INDEXED_FROM", 10)
        monkeypatch.setattr(passage_search, "SCANNED_SQUARED", 1)
        (line,) = scans(await plan(conn, agent, "n1"), "passages_by_meaning_384")
        assert "never executed" not in line
        assert await found(conn, agent, degrees=7) == exact
        await conn.execute("drop index passages_by_meaning_384")
        assert await found(conn, agent, degrees=7) == exact


async def test_words_and_sizes_are_read_from_indexes_of_the_archive(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        await passages.insert_for_agent(conn, agent, [passage("tea", 0)])
        await passages.insert_for_agent(conn, other, [passage(f"tea {n}") for n in range(2000)])
        await conn.execute("analyze passages")
        shown = await plan(conn, agent, "tea")
        (words,) = scans(shown, "Bitmap Index Scan on passages_by_words")
        assert "rows=1.00" in words, "it reads nothing of other archives"
        assert scans(shown, "using passages_by_age on passages")


async def test_words_that_statistics_know_everywhere_are_not_looked_up(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage_words, "KNOWN_FROM", 500)
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await conn.execute("alter table passages set (autovacuum_enabled = off)")
        crowd = [passage(f"the user said {n}") for n in range(600)]
        await passages.insert_for_agent(conn, agent, [*crowd, passage("the user likes saffron", 0)])
        assert looked_up(await plan(conn, agent, "the user and saffron")) == 2
        await conn.execute("analyze passages")
        assert looked_up(await plan(conn, agent, "the user and saffron")) == 1
        assert await found(conn, agent, "the user and saffron") == ["the user likes saffron"]
        assert looked_up(await plan(conn, agent, "the user")) == 1
        assert len(await found(conn, agent, "the user", limit=3)) == 3


async def test_without_statistics_a_common_word_is_read_up_to_a_bound_and_says_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await crowd(conn, agent, 1000, "'the user said ' || n")
        await passages.insert_for_agent(conn, agent, [passage("likes saffron", 0)])
        await conn.execute("analyze passages")
        shown = await plan(conn, agent, "user saffron")
        assert any("never executed" in line for line in scans(shown, "on pg_statistic s"))
        assert read_for_words(shown) == passage_words.COMMON + 1
        assert (await found(conn, agent, "user saffron", limit=1)) == ["likes saffron"]


async def test_words_are_looked_up_alone_where_nearly_all_passages_are_of_the_archive(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        await crowd(conn, agent, 90, "'tea ' || n")
        await crowd(conn, other, 10, "'tea ' || n || ' elsewhere'")
        await conn.execute("analyze passages")
        for asking, alone in ((agent, True), (other, False)):
            (scope,) = scans(await plan(conn, asking, "tea 7"), "CTE Scan on its_word")
            assert ("never executed" in scope) == alone
            assert (await found(conn, asking, "tea 7", limit=1))[0].startswith("tea 7")
        assert all(text.endswith("elsewhere") for text in await found(conn, other, "tea"))


async def test_of_equals_the_newer_is_better(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        written = [passage("tea", 0, day=day, tags=(str(day),)) for day in (2, 3, 1)]
        await passages.insert_for_agent(conn, agent, written)
        hits = await passages.search(
            conn,
            organization_id=DEFAULT_ORGANIZATION,
            agent_id=agent,
            query="tea",
            vector=angle(5),
            embedding_model=MODEL,
        )
        assert [hit.passage.tags for hit in hits] == [("3",), ("2",), ("1",)]


async def crowd(conn: Conn, agent_id: str, count: int, text: str) -> None:
    """Give an agent many passages without vectors. `text` is an expression over their number `n`."""
    archive = await archives.ensure_for_agent(conn, agent_id, embedding=MODEL, dimensions=384)
    await conn.execute(
        "insert into passages (id, organization_id, archive_id, text)"
        f" select 'passage-' || gen_random_uuid(), $1, $2, {text} from generate_series(1, {count}) n",
        DEFAULT_ORGANIZATION,
        archive.id,
    )


async def explained(conn: Conn, agent_id: str, query: str) -> str:
    """Return how a search is run on a connection as the server has it."""
    where = Where(organization_id=DEFAULT_ORGANIZATION, agent_id=agent_id)
    statement, arguments = passage_search.by_meaning(
        where,
        "p.id, p.text, p.created_at",
        query,
        angle(7),
        MODEL,
        3,
        typed=True,
        common=await passage_statistics.read(conn, least=passage_words.COMMON),
    )
    rows = await conn.fetch(f"explain (analyze, costs off, timing off) {statement}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_a_small_archive_beside_a_large_one_is_read_alone(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        await passages.insert_for_agent(conn, agent, [passage("tea", 0), passage("milk", 20)])
        await crowd(conn, other, 3000, "'tea ' || n")
        await conn.execute("analyze passages")
        shown = await explained(conn, agent, "tea")
        assert "Seq Scan on passages" not in shown
        assert "Rows Removed by Filter: 3" not in shown
        assert scans(shown, "Index Scan using passages_by_age") or scans(shown, "on passages_by_age")


async def test_a_word_that_is_common_elsewhere_is_found_where_it_is_rare(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        await crowd(conn, other, 3000, "'saffron ' || n")
        await crowd(conn, agent, 650, "'note ' || n")
        await passages.insert_for_agent(conn, agent, [passage("the saffron is in the cellar")])
        await conn.execute("analyze passages")
        assert await found(conn, agent, "saffron xyzzy") == ["the saffron is in the cellar"]


async def test_a_word_that_is_expected_to_be_common_is_read_a_little_only(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage_words, "KNOWN_FROM", 500)
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        await crowd(conn, other, 1500, "'milk ' || n")
        await crowd(conn, agent, 1200, "'tea ' || n || ' note'")
        await conn.execute("analyze passages")
        shown = await plan(conn, agent, "tea 77")
        assert read_for_words(shown) == passage_words.PROBED + 1
        assert await found(conn, agent, "tea 77", limit=1) == ["tea 77 note"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(a+)+$" + "a" * 50 + "!",
        "& | ! ( : *",
        "(",
        "' union select * from api_keys--",
        "\\",
        "'\\'",
        "\0\ud800",
        "<->",
        "a:*",
        "word " * 10_000,
        " ".join(f"w{n}" for n in range(400)),
    ],
)
async def test_a_query_is_data(pool: Pool, query: str) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await passages.insert_for_agent(conn, agent, [passage("tea", 0)])
        assert await found(conn, agent, query, degrees=0) == ["tea"]
        await found(conn, agent, query)
        await libraries.found(conn, agent, query, tags=[query.translate({0: " "}).replace("\ud800", "")])
