"""What was said, as Letta lists it: of an agent, a conversation, a run, and everybody."""

from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import CALL, MEMORY, events, kinds, new_agent, send, talking, user
from tests.serving import Served


async def talked(served: Served, turns: int) -> tuple[str, list[dict[str, Any]]]:
    """Make an agent with some turns behind it; return its id and its whole history, oldest first."""
    agent_id = await new_agent(served)
    for turn in range(turns):
        await send(served, agent_id, user(f"question {turn}"))
    return agent_id, await served.json("GET", f"/v1/agents/{agent_id}/messages")


async def test_a_history_is_oldest_first_whatever_the_order(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id, everything = await talked(served, 3)
        assert kinds(everything) == ["system_message"] + ["user_message", "assistant_message"] * 3
        path = f"/v1/agents/{agent_id}/messages"

        async def page(**query: Any) -> list[dict[str, Any]]:
            return await served.json("GET", path, params=query)

        assert await page(limit=3) == everything[-3:]
        assert await page(limit=3, order="asc") == everything[:3]
        middle = everything[3]["id"]
        assert await page(after=middle) == everything[4:]
        assert await page(before=middle) == everything[:3]
        assert await page(before=middle, limit=2) == everything[1:3]
        assert await page(after=middle, limit=2, order="asc") == everything[4:6]
        only = await page(include_return_message_types=["user_message", "system_message"])
        assert kinds(only) == ["system_message", *["user_message"] * 3]
        missing = "message-00000000-0000-4000-8000-000000000000"
        assert (
            "not found" in (await served.json("GET", path, params={"after": missing}, status=404))["detail"]
        )
        for bad in ({"limit": -1}, {"limit": ""}, {"order": "sideways"}, {"include_err": "maybe"}):
            await served.json("GET", path, params=bad, status=422)


async def test_a_message_is_retrieved_as_the_list_of_what_it_shows(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        answer = await send(served, agent_id, user("I like tea"))
        found = await served.json("GET", f"/v1/messages/{answer['messages'][0]['id']}")
        assert found == answer["messages"][:3]
        await served.json("GET", "/v1/messages/message-00000000-0000-4000-8000-000000000000", status=404)
        refused = await served.json(
            "PATCH", f"/v1/agents/{agent_id}/messages/{found[0]['id']}", json={}, status=405
        )
        assert refused["error"]["type"] == "method_not_allowed"


async def test_messages_of_every_agent_are_listed_together(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        one, first = await talked(served, 1)
        _, second = await talked(served, 1)
        everything = await served.json("GET", "/v1/messages/")
        assert [m["id"] for m in everything if m["message_type"] != "system_message"] == [
            m["id"] for m in (*first, *second) if m["message_type"] != "system_message"
        ]
        assert await served.json("GET", "/v1/messages/", params={"conversation_id": one}) == first
        assert await served.json("GET", "/v1/messages/", params={"limit": 2}) == everything[-2:]
        older = await served.json("GET", "/v1/messages/", params={"before": everything[-1]["id"], "limit": 1})
        assert older == everything[-2:-1]


async def test_a_runs_messages_are_oldest_first_and_page_in_their_order(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        agent_id, _ = await talked(served, 1)
        answer = await send(served, agent_id, user("more"))
        path = f"/v1/runs/{answer['usage']['run_ids'][0]}/messages"
        rising = await served.json("GET", path)
        assert kinds(rising) == ["user_message", "assistant_message"]
        assert await served.json("GET", path, params={"order": "desc"}) == rising[::-1]
        assert await served.json("GET", path, params={"after": rising[0]["id"]}) == rising[1:]
        step_id = rising[1]["step_id"]
        assert await served.json("GET", f"/v1/steps/{step_id}/messages") == rising[1:]


async def test_conversations_share_an_agent_but_not_their_messages(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        made = await served.json("POST", "/v1/conversations/", params={"agent_id": agent_id})
        path = f"/v1/conversations/{made['id']}/messages"
        for turn in range(3):
            response = await served.http.post(path, json=user(f"question {turn}"))
            shown = kinds(events(response.text))
            assert shown == ["ping", "assistant_message", "stop_reason", "usage_statistics"]
        answer = await served.json("POST", path, json=user("quietly", streaming=False))
        assert kinds(answer["messages"]) == ["assistant_message"]
        newest_first = await served.json("GET", path)
        assert kinds(newest_first)[-1] == "system_message"
        assert len(newest_first) == 9
        first = await served.json("GET", path, params={"limit": 4})
        then = await served.json("GET", path, params={"limit": 9, "after": first[-1]["id"]})
        assert first + then == newest_first
        assert await served.json("GET", path, params={"order": "asc"}) == newest_first[::-1]
        assert kinds(await served.json("GET", f"/v1/agents/{agent_id}/messages")) == ["system_message"]
        inside = {"conversation_id": made["id"]}
        listed = await served.json("GET", f"/v1/agents/{agent_id}/messages", params=inside)
        assert listed == newest_first[::-1]


async def test_an_agents_own_conversation_has_three_names(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        by_default = await served.http.post(
            "/v1/conversations/default/messages", json=user("hi", agent_id=agent_id)
        )
        assert kinds(events(by_default.text))[1] == "assistant_message"
        by_agent = await served.http.post(f"/v1/conversations/{agent_id}/messages", json=user("hi"))
        assert kinds(events(by_agent.text))[1] == "assistant_message"
        history = await served.json("GET", f"/v1/agents/{agent_id}/messages")
        assert kinds(history) == ["system_message"] + ["user_message", "assistant_message"] * 2
        query = {"agent_id": agent_id}
        assert await served.json("GET", "/v1/conversations/default/messages", params=query) == history
        assert await served.json("GET", f"/v1/conversations/{agent_id}/messages") == history
        await served.json("POST", "/v1/conversations/default/messages", json=user("hi"), status=422)
