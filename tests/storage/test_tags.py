"""Tags of agents and blocks, as one list."""

from actors import clock
from storage import blocks, tags
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Block
from tests.storage import seeds

ORG = DEFAULT_ORGANIZATION


async def test_tags_are_listed_once_and_by_page(pool: Pool) -> None:
    async with connection(pool) as conn:
        for words, hidden in ((["b", "a"], False), (["b", "Z"], False), (["secret"], True)):
            agent_id = await seeds.agent(conn)
            await conn.execute(
                "update agents set tags = $2, hidden = $3 where id = $1", agent_id, words, hidden
            )
        at = clock.now()
        await blocks.create(
            conn,
            Block(
                id=clock.new_id("block"),
                organization_id=ORG,
                label="human",
                value="",
                tags=("a", "c d"),
                created_at=at,
                updated_at=at,
            ),
        )
        assert await tags.list_page(conn, organization_id=ORG) == ["Z", "a", "b", "c d"]
        assert await tags.list_page(conn, organization_id=ORG, falling=True, limit=2) == ["c d", "b"]
        assert await tags.list_page(conn, organization_id=ORG, above="a", below="c d") == ["b"]
        assert await tags.list_page(conn, organization_id=ORG, text="C") == ["c d"]
        assert await tags.list_page(conn, organization_id=ORG, text="%") == []
        assert await tags.list_page(conn, organization_id="org-other") == []
