"""What statistics know of the words of passages, and how long a connection remembers it."""

import pytest

from storage import passage_statistics, passages
from storage.pool import Pool, connection
from tests.storage import seeds
from tests.storage.libraries import passage


async def test_words_of_many_passages_are_known_once_the_table_is_analysed(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await conn.execute("alter table passages set (autovacuum_enabled = off)")
        assert await passage_statistics.read(conn, least=1) == {}
        written = [passage("milk and tea"), *(passage(f"milk {n}") for n in range(9))]
        await passages.insert_for_agent(conn, agent, written)
        await conn.execute("analyze passages")
        known = await passage_statistics.read(conn, least=5)
        assert known["milk"] == pytest.approx(1.0)
        assert "tea" not in known


async def test_a_connection_remembers_them_for_a_while(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await passages.insert_for_agent(conn, agent, [passage("milk"), passage("milk and tea")])
        before = await passage_statistics.common_words(conn, least=2)
        await conn.execute("analyze passages")
        assert await passage_statistics.common_words(conn, least=2) is before
        monkeypatch.setattr(passage_statistics, "FRESH_SECONDS", -1.0)
        assert "milk" in await passage_statistics.common_words(conn, least=2)
