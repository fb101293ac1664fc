"""Requests that wait, over REST."""

from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import MODEL, new_agent, send, talking

RULE = {"type": "requires_approval", "tool_name": "memory_insert"}
CALL = {
    "name": "memory_insert",
    "arguments": {"label": "human", "new_string": "Likes tea"},
    "id": "call-1",
}
USER = {"role": "user", "content": "I like tea"}


def approval(**fields: Any) -> dict[str, Any]:
    """Return a request that answers the call."""
    return {"messages": [{"type": "approval", "approvals": [{"tool_call_id": "call-1", **fields}]}]}


async def test_what_every_conversation_waits_for_is_listed(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [CALL], "repeat": 2}])
    async with talking(pool, provider) as served:
        agent = await served.agent(
            model=MODEL, memory_blocks=[{"label": "human", "value": ""}], tool_rules=[RULE]
        )
        path = f"/v1/agents/{agent['id']}/pending-requests"
        assert await served.json("GET", path) == []
        other = await served.json("POST", "/v1/conversations/", params={"agent_id": agent["id"]}, json={})
        await send(served, agent["id"], {"messages": [USER]})
        body = {"messages": [USER], "streaming": False}
        await served.json("POST", f"/v1/conversations/{other['id']}/messages", json=body)
        first, second = await served.json("GET", path)
        assert (first["conversation_id"], second["conversation_id"]) == (None, other["id"])
        assert [c["kind"] for c in first["calls"]] == ["approval"]
        assert first["calls"][0]["tool_call_id"] == "call-1"
        assert first["expires_at"] > first["created_at"]
        await send(served, agent["id"], approval(approve=True))
        [left] = await served.json("GET", path)
        assert left["id"] == second["id"]
        await served.json("DELETE", f"/v1/conversations/{other['id']}")
        assert await served.json("GET", path) == []


async def test_any_caller_may_change_the_arguments(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [CALL]}, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent = await served.agent(
            model=MODEL, memory_blocks=[{"label": "human", "value": ""}], tool_rules=[RULE]
        )
        await send(served, agent["id"], {"messages": [USER]})
        changed = {"label": "human", "new_string": "Likes coffee"}
        answer = await send(served, agent["id"], approval(approve=True, arguments=changed))
        assert answer["messages"][0]["tool_return"] == "Likes coffee"


async def test_a_rule_for_a_tool_that_is_not_held_is_refused(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        path = f"/v1/agents/{agent_id}/tools/approval/no_such_tool"
        await served.json("PATCH", path, status=404, json={"requires_approval": True})
        await served.json("PATCH", f"{path}%20x", status=422, json={"requires_approval": True})
