"""The official SDK searches tools by their words."""

import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import connected


async def test_tools_are_found_by_their_words_the_best_first(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        search = c.client.tools.search
        best, *more = await search(query="searching archival memories")
        assert best.tool.name == "archival_memory_search"
        assert best.fts_rank == 1
        assert all(best.combined_score > other.combined_score for other in more)
        assert [hit.tool.name for hit in await search(query="archival insert", limit=1)] == [
            "archival_memory_insert"
        ]
        assert await search(query="zebra") == []
        core = await search(tool_types=["letta_core"])
        assert {hit.tool.tool_type for hit in core} == {"letta_core"}
        assert {hit.tool.tool_type for hit in await search(tags=["letta_memory_core"])} == {
            "letta_memory_core"
        }
        assert len(await search(limit=2)) == 2


async def test_a_tool_of_the_servers_own_keeps_its_definition(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        [tool] = [tool async for tool in c.client.tools.list(name="memory_insert")]
        with pytest.raises(letta_client.APIStatusError) as refused:
            await c.client.tools.update(tool.id, description="mine")
        assert refused.value.status_code == 501
        changed = await c.client.tools.update(tool.id, default_requires_approval=True)
        assert changed.default_requires_approval
        assert changed.description == tool.description
