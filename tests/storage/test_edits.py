from storage import checkpoints, edits
from storage.pool import Pool, connection
from tests.storage import seeds
from tests.storage.test_checkpoints import accepted, plain

GONE = ("messages", "inbox", "runs", "steps", "conversations")


async def test_a_deleted_agent_takes_along_what_no_foreign_key_would(pool: Pool) -> None:
    async with connection(pool) as conn:
        going, staying = await seeds.agent(conn), await seeds.agent(conn)
        for agent_id in (going, staying):
            command = await accepted(conn, agent_id)
            assert await checkpoints.commit(conn, [plain(agent_id, command)]) == [None]
        async with conn.transaction():
            await edits.delete_agent(conn, going)
        for table in GONE:
            left = await conn.fetch(f"select distinct agent_id from {table}")
            assert [row["agent_id"] for row in left] == [staying], table
