"""Lists of what this server has none of."""

import pytest

from gateway.rest import empty
from storage.pool import Pool
from tests.serving import serving

MISSING = "agent-00000000-0000-4000-8000-000000000000"


async def test_every_list_is_empty_and_every_count_is_zero(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent(model="demo/scripted")
        for route in empty.ROUTES:
            answer = await served.json(route.method, route.path.format(agent_id=agent["id"]))
            if route.path.endswith("/count"):
                assert answer == 0
            elif route.path.endswith("/files"):
                assert answer == {"files": [], "next_cursor": None, "has_more": False}
            else:
                assert answer in ([], {}), route.path


@pytest.mark.parametrize("what", ["folders", "sources", "groups", "files"])
async def test_an_agent_that_is_not_there_has_no_lists(pool: Pool, what: str) -> None:
    async with serving(pool) as served:
        await served.json("GET", f"/v1/agents/{MISSING}/{what}", status=404)
