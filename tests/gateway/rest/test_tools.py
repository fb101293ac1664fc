"""The routes of tools."""

from typing import Any

from actors.tools.registry import BUILTIN
from storage.pool import Pool
from tests.serving import serving

MISSING = "tool-00000000-0000-4000-8000-000000000000"


async def test_built_in_tools_are_listed_counted_and_read(pool: Pool) -> None:
    async with serving(pool) as served:

        async def names(**params: Any) -> set[str]:
            listed = await served.json("GET", "/v1/tools/", params=params)
            assert len(listed) == await served.json("GET", "/v1/tools/count", params=params)
            return {tool["name"] for tool in listed}

        assert await names() == set(BUILTIN)
        assert await names(name="memory_insert") == {"memory_insert"}
        assert await names(names=["memory_insert", "memory_replace"]) == {"memory_insert", "memory_replace"}
        assert await names(return_only_letta_tools=True) == set(BUILTIN)
        (tool,) = await served.json("GET", "/v1/tools/", params={"name": "memory_insert"})
        assert await served.json("GET", f"/v1/tools/{tool['id']}") == tool
        assert tool["json_schema"]["name"] == "memory_insert"
        assert tool["source_code"] is None
        await served.json("GET", f"/v1/tools/{MISSING}", status=404)


async def test_an_agents_tools_are_detached_and_attached(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent()
        tool = agent["tools"][0]
        path = f"/v1/agents/{agent['id']}/tools"
        assert {t["id"] for t in await served.json("GET", path)} == {t["id"] for t in agent["tools"]}
        for _ in range(2):
            assert await served.json("PATCH", f"{path}/detach/{tool['id']}") is None
        assert tool["id"] not in {t["id"] for t in await served.json("GET", path)}
        for _ in range(2):
            assert await served.json("PATCH", f"{path}/attach/{tool['id']}") is None
        assert tool["id"] in {t["id"] for t in await served.json("GET", path)}


async def test_what_does_not_exist_is_not_found(pool: Pool) -> None:
    nobody = "agent-00000000-0000-4000-8000-000000000000"
    async with serving(pool) as served:
        agent = await served.agent()
        answer = await served.json("PATCH", f"/v1/agents/{agent['id']}/tools/attach/{MISSING}", status=404)
        assert answer["detail"] == f"Tool '{MISSING}' not found"
        for path in ("", f"/attach/{MISSING}", f"/detach/{MISSING}"):
            method = "PATCH" if path else "GET"
            answer = await served.json(method, f"/v1/agents/{nobody}/tools{path}", status=404)
            assert answer["detail"] == "Agent not found"
