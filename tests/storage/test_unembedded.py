"""What waits for its vector is found by archive, and given one only if it is still what was read."""

import pytest
from msgspec.structs import replace

from storage import archives, passages, unembedded
from storage.archive_records import Passage
from storage.errors import NotFoundError
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from storage.unembedded import Text, Vector, Waiting
from tests.storage import libraries, seeds
from tests.storage.libraries import MODEL, angle, passage


async def insert(conn: Conn, *new: Passage) -> tuple[str, list[Passage]]:
    agent = await seeds.agent(conn)
    return agent, await passages.insert_for_agent(conn, agent, new)


async def waiting(conn: Conn) -> list[Waiting]:
    return await unembedded.waiting_archives(conn, limit=100)


async def store(conn: Conn, archive: Waiting, *vectors: Vector, model: str = MODEL) -> int:
    return await unembedded.store(conn, archive, vectors, model=model)


async def read(conn: Conn, passage_id: str) -> Passage:
    return await passages.get(conn, passage_id, organization_id=DEFAULT_ORGANIZATION)


async def test_what_has_no_vector_waits_oldest_first_until_it_has_one(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, (b, a, _) = await insert(conn, passage("b", day=2), passage("a", day=1), passage("c", 30))
        (archive,) = await waiting(conn)
        assert (archive.archive_id, archive.embedding, archive.settled) == (a.archive_id, MODEL, True)
        texts = await unembedded.texts(conn, a.archive_id, limit=10)
        assert texts == [Text(a.id, "a"), Text(b.id, "b")]
        assert await unembedded.texts(conn, a.archive_id, limit=1) == texts[:1]
        assert await store(conn, archive, Vector(a.id, "a", angle(10)), Vector(b.id, "b", angle(20))) == 2
        assert await waiting(conn) == []
        assert (await read(conn, a.id)).vector == pytest.approx(angle(10), abs=1e-6)
        assert await libraries.found(conn, agent, degrees=12, limit=2) == ["a", "b"]


async def test_a_text_that_was_changed_deleted_or_embedded_meanwhile_is_left_alone(pool: Pool) -> None:
    async with connection(pool) as conn:
        _, (changed, gone, done) = await insert(conn, passage("x"), passage("y"), passage("z"))
        (archive,) = await waiting(conn)
        assert await store(conn, archive, Vector(done.id, "z", angle(1))) == 1
        await conn.execute("update passages set text = 'other' where id = $1", changed.id)
        await conn.execute("delete from passages where id = $1", gone.id)
        late = [Vector(p.id, p.text, angle(90)) for p in (changed, gone, done)]
        assert await store(conn, archive, *late) == 0
        assert (await read(conn, changed.id)).vector is None
        assert (await read(conn, done.id)).vector == pytest.approx(angle(1), abs=1e-6)
        assert await unembedded.texts(conn, changed.archive_id, limit=9) == [Text(changed.id, "other")]


async def test_what_its_model_has_no_vector_for_waits_no_more(pool: Pool) -> None:
    async with connection(pool) as conn:
        zero = replace(passage("nothing", 0), vector=(0.0, 0.0))
        _, (_, refused) = await insert(conn, zero, passage("refused"))
        (archive,) = await waiting(conn)
        assert await unembedded.texts(conn, refused.archive_id, limit=9) == [Text(refused.id, "refused")]
        assert await store(conn, archive, Vector(refused.id, "refused", ())) == 1
        assert await waiting(conn) == []


async def test_the_first_vector_settles_the_archives_model_and_a_second_model_stores_nothing(
    pool: Pool,
) -> None:
    async with connection(pool) as conn:
        agent, (first, second) = await insert(conn, passage("x"), passage("y"))
        (archive,) = await waiting(conn)
        assert (archive.embedding, archive.settled) == (None, False)
        assert await store(conn, archive, Vector(first.id, "x", angle(10))) == 1
        (settled,) = await archives.of_agent(conn, agent)
        assert (settled.embedding, settled.dimensions) == (MODEL, 384)
        assert await store(conn, archive, Vector(second.id, "y", angle(10)), model="other/model") == 0
        assert (await read(conn, second.id)).embedding_model is None


async def test_an_archive_without_a_model_waits_for_that_of_its_agent(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, _ = await insert(conn, passage("x"))
        await conn.execute(
            """update agents set settings = settings || '{"embedding": "a/b"}' where id = $1""", agent
        )
        (archive,) = await waiting(conn)
        assert (archive.embedding, archive.settled) == ("a/b", False)


async def test_archives_are_paged_by_id(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = sorted([(await insert(conn, passage("x"), passage("y")))[1][0].archive_id for _ in range(5)])
        first = await unembedded.waiting_archives(conn, limit=2)
        rest = await unembedded.waiting_archives(conn, after=first[-1].archive_id, limit=100)
        assert [w.archive_id for w in (*first, *rest)] == made


async def test_an_archive_that_is_gone_takes_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        _, (one,) = await insert(conn, passage("x"))
        (archive,) = await waiting(conn)
        await archives.delete(conn, one.archive_id, organization_id=DEFAULT_ORGANIZATION)
        with pytest.raises(NotFoundError):
            await store(conn, archive, Vector(one.id, "x", angle(10)))


async def test_looking_for_what_waits_reads_an_index_of_nothing_else(pool: Pool) -> None:
    async with connection(pool) as conn:
        _, stored = await insert(conn, *(passage(str(n), n) for n in range(300)), passage("x"))
        await conn.execute("analyze passages")
        for statement, arguments in (
            (unembedded._ARCHIVES, ("", 10)),
            (unembedded._TEXTS, (stored[0].archive_id, 10)),
        ):
            rows = await conn.fetch(f"explain (analyze, costs off, timing off) {statement}", *arguments)
            plan = "\n".join(row["QUERY PLAN"] for row in rows)
            assert "passages_unembedded" in plan, plan
            assert "Seq Scan on passages" not in plan, plan
