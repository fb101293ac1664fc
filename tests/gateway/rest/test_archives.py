"""Routes of archives where the SDK's own tests do not reach."""

from storage.pool import Pool
from tests.serving import serving

MISSING = "archive-00000000-0000-4000-8000-000000000000"


async def test_the_agents_of_an_archive_are_listed(pool: Pool) -> None:
    async with serving(pool) as served:
        agents = [await served.agent() for _ in range(3)]
        archive = await served.json("POST", "/v1/archives/", json={"name": "a"})
        path = f"/v1/archives/{archive['id']}/agents"
        for agent in agents[:2]:
            attach = f"/v1/agents/{agent['id']}/archives/attach/{archive['id']}"
            assert await served.json("PATCH", attach) is None
        listed = await served.json("GET", path, params={"order": "asc"})
        assert [a["id"] for a in listed] == [a["id"] for a in agents[:2]]
        assert listed[0]["tools"] == []
        assert len(await served.json("GET", path, params={"limit": 1})) == 1
        await served.json("GET", f"/v1/archives/{MISSING}/agents", status=404)
        detach = f"/v1/agents/{agents[0]['id']}/archives/detach/{archive['id']}"
        assert await served.json("PATCH", detach) is None
        assert [a["id"] for a in await served.json("GET", path)] == [agents[1]["id"]]


async def test_malformed_archives_are_refused(pool: Pool) -> None:
    async with serving(pool) as served:
        for body in (
            {},
            {"name": ""},
            {"name": 3},
            {"name": "x" * 257},
            {"name": "a", "description": "x" * 10_001},
        ):
            await served.json("POST", "/v1/archives/", json=body, status=422)
        await served.json("GET", "/v1/archives/archive-1", status=422)
        await served.json("GET", "/v1/archives/", params={"limit": 0}, status=422)
        archive = await served.json("POST", "/v1/archives/", json={"name": "a", "embedding": "p/m"})
        assert archive["embedding_config"]["handle"] == "p/m"
        await served.json("PATCH", f"/v1/archives/{archive['id']}", json={"name": ""}, status=422)
        same = await served.json("PATCH", f"/v1/archives/{archive['id']}", json={"name": None})
        assert same["name"] == "a"
