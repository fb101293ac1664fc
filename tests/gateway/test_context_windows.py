"""What fills a window is measured for any conversation, whatever became of its model."""

from msgspec.structs import replace

from bench.provider import Provider
from gateway import context_windows
from storage import conversations
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from tests.gateway.rest.talking import new_agent, talking


async def test_every_part_is_counted_and_adds_up(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": "Likes tea"}])
        async with connection(pool) as conn:
            own = await conversations.get(conn, agent, organization_id=DEFAULT_ORGANIZATION)
        found = await context_windows.measure(served.host, own)
        assert "Likes tea" in found.core_memory
        assert 0 < found.num_tokens_core_memory < found.context_window_size_current
        assert found.context_window_size_current <= found.context_window_size_max
        assert found.num_tokens_functions_definitions > 0


async def test_a_model_that_was_taken_away_hides_nothing(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        async with connection(pool) as conn:
            own = await conversations.get(conn, agent, organization_id=DEFAULT_ORGANIZATION)
        gone = await context_windows.measure(served.host, replace(own, model="nobody/x"))
        assert gone.context_window_size_max == 0
        assert gone.num_tokens_system > 0
