"""The routes of memory blocks."""

from typing import Any

import anyio

from storage.pool import Pool, connection
from tests.serving import Served, serving

MISSING = "block-00000000-0000-4000-8000-000000000000"


async def make(served: Served, label: str = "human", value: str = "v", **more: Any) -> dict[str, Any]:
    return await served.json("POST", "/v1/blocks/", json={"label": label, "value": value, **more})


async def system_text(served: Served, agent_id: str) -> str:
    async with connection(served.pool) as conn:
        return await conn.fetchval(
            "select content -> 0 ->> 'text' from messages where conversation_id = $1 and position = 0",
            agent_id,
        )


# --- blocks as such ---------------------------------------------------------------------------


async def test_a_block_is_created_read_changed_and_deleted(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await make(served, metadata={"k": 1}, tags=["t"], limit=50, read_only=True, is_template=True)
        path = f"/v1/blocks/{made['id']}"
        assert await served.json("GET", path) == made
        assert made["limit"] == 50
        assert made["is_template"] is True

        changed = await served.json("PATCH", path, json={"value": "w", "description": "d", "limit": None})
        assert changed == {**made, "value": "w", "description": "d"}
        assert await served.json("GET", path) == changed

        assert await served.json("DELETE", path) is None
        for method in ("GET", "DELETE"):
            answer = await served.json(method, path, status=404)
            assert answer["detail"] == f"Block '{made['id']}' not found"
        await served.json("PATCH", path, json={"value": "x"}, status=404)


async def test_a_value_longer_than_its_limit_is_accepted(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await make(served, value="x" * 1000, limit=10)
        assert len(made["value"]) == 1000
        await served.json("PATCH", f"/v1/blocks/{made['id']}", json={"value": "x" * 200_001}, status=422)


async def test_blocks_that_cannot_be_are_refused_by_name(pool: Pool) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"value": "v"}, ""),
        ({"label": "a b", "value": ""}, "/label"),
        ({"label": "x" * 101, "value": ""}, "/label"),
        ({"label": "a", "value": 1}, "/value"),
        ({"label": "a", "value": "", "limit": 0}, "/limit"),
        ({"label": "a", "value": "", "limit": 2**31}, "/limit"),
        ({"label": "a", "value": "", "read_only": "yes"}, "/read_only"),
        ({"label": "a", "value": "", "tags": ["x"] * 101}, "/tags"),
    ]
    async with serving(pool) as served:
        for body, param in refused:
            answer = await served.json("POST", "/v1/blocks/", json=body, status=422)
            assert answer["error"].get("param", "") == param, answer
        assert await served.json("GET", "/v1/blocks/count") == 0


async def test_blocks_are_listed_oldest_first_in_pages_and_by_filters(pool: Pool) -> None:
    async with serving(pool) as served:
        made = [await make(served, f"b{i}", tags=["odd"] if i % 2 else ["even"]) for i in range(4)]
        await make(served, "ghost", hidden=True)
        holder = await served.agent(block_ids=[made[0]["id"]])

        async def labels(**params: Any) -> list[str]:
            return [b["label"] for b in await served.json("GET", "/v1/blocks/", params=params)]

        assert await labels() == ["b0", "b1", "b2", "b3"]
        assert await labels(limit=2, after=made[0]["id"]) == ["b1", "b2"]
        assert await labels(limit=2, before=made[3]["id"]) == ["b1", "b2"]
        assert await labels(order="desc", limit=1) == ["b3"]
        assert await labels(label="b2") == ["b2"]
        assert await labels(tags=["odd"]) == ["b1", "b3"]
        assert await labels(label_search="B1") == ["b1"]
        assert await labels(connected_to_agents_count_gt=0) == ["b0"]
        assert await labels(connected_to_agents_count_eq=[0, 5]) == ["b1", "b2", "b3"]
        assert await labels(identity_id="identity-x") == []
        assert await served.json("GET", "/v1/blocks/count", params={"tags": "odd"}) == 2
        await served.json("GET", "/v1/blocks/", params={"after": MISSING}, status=404)
        assert holder["blocks"][0]["id"] == made[0]["id"]


async def test_a_count_of_agents_that_no_database_holds_is_refused_by_its_name(pool: Pool) -> None:
    async with serving(pool) as served:
        for name in ("gt", "lt", "eq"):
            field = f"connected_to_agents_count_{name}"
            for count, status in ((2**63 - 1, 200), (2**63, 422)):
                answer = await served.json("GET", "/v1/blocks/", params={field: count}, status=status)
            assert answer["error"]["param"].startswith(f"/{field}")


# --- blocks of an agent -----------------------------------------------------------------------


async def test_an_agents_blocks_are_read_and_changed_by_label(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent(memory_blocks=[{"label": "system/human", "value": "old"}])
        blocks = f"/v1/agents/{agent['id']}/core-memory/blocks"
        path = f"{blocks}/system%2Fhuman"
        assert (await served.json("GET", path))["value"] == "old"

        changed = await served.json("PATCH", path, json={"value": "brand new"})
        assert changed["value"] == "brand new"
        assert "brand new" in await system_text(served, agent["id"])
        assert (await served.json("GET", f"/v1/blocks/{changed['id']}"))["value"] == "brand new"

        renamed = await served.json("PATCH", path, json={"label": "person"})
        assert renamed["label"] == "person"
        assert (await served.json("GET", f"{blocks}/person"))["id"] == changed["id"]
        await served.json("GET", path, status=404)


async def test_attaching_and_detaching_can_be_repeated(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent()
        block = await make(served, value="shared fact")
        blocks = f"/v1/agents/{agent['id']}/core-memory/blocks"
        for _ in range(2):
            state = await served.json("PATCH", f"{blocks}/attach/{block['id']}")
            assert [b["id"] for b in state["blocks"]] == [block["id"]]
        assert "shared fact" in await system_text(served, agent["id"])
        assert await served.json("GET", blocks) == [block]
        for _ in range(2):
            assert (await served.json("PATCH", f"{blocks}/detach/{block['id']}"))["blocks"] == []
        assert "shared fact" not in await system_text(served, agent["id"])
        assert await served.json("GET", f"/v1/blocks/{block['id']}") == block


async def test_two_blocks_of_one_label_do_not_fit_on_one_agent(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent(memory_blocks=[{"label": "human", "value": "v"}])
        other = await make(served, "human")
        blocks = f"/v1/agents/{agent['id']}/core-memory/blocks"
        answer = await served.json("PATCH", f"{blocks}/attach/{other['id']}", status=409)
        assert answer["error"]["type"] == "conflict"
        assert len(await served.json("GET", blocks)) == 1


async def test_what_does_not_exist_is_not_found(pool: Pool) -> None:
    nobody = "agent-00000000-0000-4000-8000-000000000000"
    async with serving(pool) as served:
        agent = await served.agent()
        for agent_id, detail in ((nobody, "Agent not found"), (agent["id"], "Block 'x' not found")):
            blocks = f"/v1/agents/{agent_id}/core-memory/blocks"
            assert (await served.json("GET", f"{blocks}/x", status=404))["detail"] == detail
            assert (await served.json("PATCH", f"{blocks}/x", json={"value": ""}, status=404))[
                "detail"
            ] == detail
            await served.json("PATCH", f"{blocks}/attach/{MISSING}", status=404)
        await served.json("GET", f"/v1/agents/{nobody}/core-memory/blocks", status=404)


async def test_a_direct_write_reaches_an_agent_that_is_awake(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent(memory_blocks=[{"label": "human", "value": "old"}])
        block_id = agent["blocks"][0]["id"]
        held = f"/v1/agents/{agent['id']}/core-memory/blocks/human"
        await served.json("PATCH", held, json={"description": "wakes the agent"})
        await served.json("PATCH", f"/v1/blocks/{block_id}", json={"value": "from outside"})
        after = await served.json("PATCH", held, json={"description": "edited again"})
        assert after["value"] == "from outside"
        assert "from outside" in await system_text(served, agent["id"])

        await served.json("DELETE", f"/v1/blocks/{block_id}")
        await served.json("GET", held, status=404)
        await served.json("PATCH", f"/v1/agents/{agent['id']}", json={"system": "x"})
        assert "from outside" not in await system_text(served, agent["id"])


async def test_writes_that_race_are_all_kept(pool: Pool) -> None:
    async with serving(pool) as served:
        block = await make(served, value="0")
        agents = [await served.agent(name=f"a{i}", block_ids=[block["id"]]) for i in range(3)]

        async def write(number: int) -> None:
            if number % 2:
                path = f"/v1/blocks/{block['id']}"
            else:
                path = f"/v1/agents/{agents[number % 3]['id']}/core-memory/blocks/human"
            await served.json("PATCH", path, json={"metadata": {"n": number}})

        with anyio.fail_after(15):
            async with anyio.create_task_group() as group:
                for number in range(18):
                    group.start_soon(write, number)
        async with connection(served.pool) as conn:
            assert await conn.fetchval("select version from blocks where id = $1", block["id"]) == 18


async def test_a_change_under_an_etag_overwrites_nothing_that_came_later(pool: Pool) -> None:
    async with serving(pool) as served:
        agent = await served.agent(memory_blocks=[{"label": "human", "value": "one"}])
        path = f"/v1/agents/{agent['id']}/core-memory/blocks/human"
        read = await served.http.get(path)
        etag = {"if-match": read.headers["etag"]}
        changed = await served.http.request("PATCH", path, json={"value": "two"}, headers=etag)
        assert changed.status_code == 200
        assert changed.headers["etag"] != read.headers["etag"]
        await served.json("PATCH", path, json={"value": "late"}, headers=etag, status=409)
        assert (await served.json("GET", path))["value"] == "two"
        await served.json("PATCH", path, json={"value": "any"}, headers={"if-match": "*"})
        wrong = {"if-match": "yesterday"}
        await served.json("PATCH", path, json={"value": "x"}, headers=wrong, status=422)
        assert (await served.json("GET", path))["value"] == "any"
