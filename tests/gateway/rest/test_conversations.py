"""The routes of conversations: opened, read, listed, closed, cancelled, taken up."""

from typing import Any

import anyio
import pytest

from bench.provider import Provider
from gateway.rest import conversations
from storage.pool import Pool, connection
from tests.gateway.rest.talking import events, kinds, new_agent, talking, user
from tests.serving import Served


async def opened(served: Served, agent_id: str, **fields: Any) -> dict[str, Any]:
    return await served.json("POST", "/v1/conversations/", params={"agent_id": agent_id}, json=fields)


async def test_a_conversation_starts_with_its_own_system_message(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        made = await opened(
            served,
            agent_id,
            summary="s",
            description="d",
            model="openai/other",
            model_settings={"temperature": 0.5},
        )
        assert (made["agent_id"], made["summary"], made["description"]) == (agent_id, "s", "d")
        assert (made["model"], made["model_settings"]) == ("openai/other", {"temperature": 0.5})
        assert made["isolated_block_ids"] == []
        [system_id] = made["in_context_message_ids"]
        [system] = await served.json("GET", f"/v1/messages/{system_id}")
        assert f"- CONVERSATION_ID: {made['id']}" in system["content"]
        assert await served.json("GET", f"/v1/conversations/{made['id']}") == made
        await served.http.post(f"/v1/conversations/{made['id']}/messages", json=user("hi"))
        after = await served.json("GET", f"/v1/conversations/{made['id']}")
        assert len(after["in_context_message_ids"]) == 3
        assert after["last_message_at"] is not None
        [record] = await provider.log()
        assert record.model == "other"


async def test_an_empty_body_opens_a_conversation_too(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        made = await served.json("POST", "/v1/conversations/", params={"agent_id": agent_id})
        assert made["summary"] is None


@pytest.mark.parametrize(
    ("query", "fields", "status"),
    [
        ({}, {}, 422),
        ({"agent_id": "agent-1"}, {}, 422),
        ({"agent_id": "agent-00000000-0000-4000-8000-000000000000"}, {}, 404),
        ({"agent_id": None}, {"model": "nobody/x"}, 404),
        ({"agent_id": None}, {"isolated_block_labels": ["human"]}, 501),
        ({"agent_id": None}, {"context_window_limit": 5}, 501),
        ({"agent_id": None}, {"hidden": True}, 501),
    ],
)
async def test_what_cannot_be_opened_is_refused(
    pool: Pool, provider: Provider, query: dict[str, Any], fields: dict[str, Any], status: int
) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        params = {name: value or agent_id for name, value in query.items()}
        await served.json("POST", "/v1/conversations/", params=params, json=fields, status=status)
        assert await served.json("GET", "/v1/conversations/") == []


async def test_conversations_are_listed_and_closed(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        one, other = await new_agent(served), await new_agent(served)
        first = await opened(served, one, summary="About tea")
        second = await opened(served, one)
        third = await opened(served, other)

        async def ids(**query: Any) -> list[str]:
            return [c["id"] for c in await served.json("GET", "/v1/conversations/", params=query)]

        assert await ids() == [third["id"], second["id"], first["id"]]
        assert await ids(agent_id=one, order="asc") == [first["id"], second["id"]]
        assert await ids(after=third["id"], limit=1) == [second["id"]]
        assert await ids(summary_search="TEA") == [first["id"]]
        assert await ids(archive_status="archived") == []
        await served.http.post(f"/v1/conversations/{first['id']}/messages", json=user("hi"))
        assert (await ids(order_by="last_message_at"))[0] == first["id"]
        assert (await ids(order_by="last_run_completion"))[0] == first["id"]
        assert await served.json("DELETE", f"/v1/conversations/{first['id']}") is None
        await served.json("GET", f"/v1/conversations/{first['id']}", status=404)
        await served.json("DELETE", f"/v1/conversations/{first['id']}", status=404)
        await served.json("POST", f"/v1/conversations/{first['id']}/messages", json=user("hi"), status=404)
        assert first["id"] not in await ids()
        for wrong in (one, "default"):
            await served.json("GET", f"/v1/conversations/{wrong}", status=422)


async def test_a_conversation_is_cancelled_alone(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "slow", "gate": "go", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        talk = await opened(served, agent_id)
        cancel = f"/v1/conversations/{talk['id']}/cancel"
        await served.json("POST", cancel, status=409)
        direct = await served.json("POST", f"/v1/agents/{agent_id}/messages/async", json=user("hi"))
        shown: list[dict[str, Any]] = []

        async def ask() -> None:
            response = await served.http.post(f"/v1/conversations/{talk['id']}/messages", json=user("hi"))
            shown.extend(events(response.text))

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await provider.log(requests=2, keep=True)
                cancelled = await served.json("POST", cancel)
        assert shown[-1]["stop_reason"] == "cancelled"
        assert direct["id"] not in cancelled
        by_default = await served.json(
            "POST", "/v1/conversations/default/cancel", params={"agent_id": agent_id}
        )
        assert by_default == {direct["id"]: "cancelled"}


async def test_a_stream_is_found_by_run_by_otid_or_as_the_newest_active_one(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume, taken_up = conversations.resume, []

    def noted(ctx: Any, run: Any, request: Any) -> Any:
        taken_up.append(run.id)
        return resume(ctx, run, request)

    monkeypatch.setattr(conversations, "resume", noted)
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        talk = await opened(served, agent_id)
        path = f"/v1/conversations/{talk['id']}/stream"
        found: list[list[dict[str, Any]]] = []
        body = user("hi", message={"otid": "mine"}, background=True)
        other = await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("elsewhere"))

        async def follow(path: str, body: dict[str, Any]) -> None:
            response = await served.http.post(path, json=body)
            found.append([e for e in events(response.text) if e["message_type"] != "ping"])

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                refused = await served.json("POST", path, status=400)
                assert "No active background run" in refused["detail"]
                await provider.script([{"text": "slow", "gate": "go"}])
                tasks.start_soon(follow, f"/v1/conversations/{talk['id']}/messages", body)
                await provider.log(requests=2, keep=True)
                [run] = await served.json("GET", "/v1/runs/", params={"active": True})
                for wanted in ({}, {"otid": "mine"}, {"run_id": run["id"]}):
                    tasks.start_soon(follow, path, wanted)
                await served.json("POST", path, json={"run_id": other["usage"]["run_ids"][0]}, status=404)
                while len(taken_up) < 3:  # the run must not be over before each has found it
                    await anyio.sleep(0.01)
                await provider.open("go")
        assert len(found) == 4
        assert all(stream == found[0] for stream in found)
        assert kinds(found[0]) == ["assistant_message", "stop_reason", "usage_statistics"]
        async with connection(pool) as conn:
            assert await conn.fetchval("select count(*) from runs where background") == 1
