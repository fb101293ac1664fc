from storage import imports
from storage.pool import Pool, connection
from tests.storage import seeds


async def test_a_summary_in_force_hides_what_stands_before_it(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await conn.execute("update conversations set end_position = 9 where id = $1", agent_id)
        await imports.put_in_force(conn, agent_id, 3)
        row = await conn.fetchrow(
            "select summary_position, from_position, end_position from conversations where id = $1", agent_id
        )
    assert row is not None
    assert tuple(row) == (3, 4, 9)
