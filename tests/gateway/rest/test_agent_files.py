"""Agent files are written as Letta writes them."""

from datetime import datetime
from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import MODEL, new_agent, talking, user

CALL = {
    "reasoning": "Better note it.",
    "tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}}],
}


async def test_an_agent_file_holds_what_makes_the_agent_and_what_its_model_sees(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        blocks = [{"label": "human", "value": "Ada"}]
        made = await served.agent(name="sam", model=MODEL, memory_blocks=blocks, tags=["a"])
        await served.json("POST", f"/v1/agents/{made['id']}/messages", json=user("I like tea"))
        response = await served.http.get(f"/v1/agents/{made['id']}/export")
    assert response.text.startswith('{\n  "agents": [')
    file: dict[str, Any] = response.json()
    [agent] = file["agents"]
    assert (agent["id"], agent["name"], agent["model"], agent["tags"]) == ("agent-0", "sam", MODEL, ["a"])
    assert agent["block_ids"] == ["block-0"]
    assert agent["tool_ids"] == [tool["id"] for tool in file["tools"]]
    assert [(b["id"], b["label"], b["value"]) for b in file["blocks"]] == [
        ("block-0", "human", "Ada\nLikes tea")
    ]
    assert {tool["name"] for tool in file["tools"]} == {tool["name"] for tool in made["tools"]}
    for key in ("groups", "files", "sources", "mcp_servers", "skills"):
        assert file[key] == []
    assert file["metadata"]["revision_id"].startswith("00")
    datetime.fromisoformat(file["created_at"])
    messages = agent["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert agent["in_context_message_ids"] == [m["id"] for m in messages]
    assert messages[0]["id"] == "message-0"
    assert messages[2]["content"][0]["reasoning"] == "Better note it."
    [call] = messages[2]["tool_calls"]
    assert call["function"]["name"] == "memory_insert"
    [result] = messages[3]["tool_returns"]
    assert messages[3]["tool_call_id"] == result["tool_call_id"] == call["id"]
    assert result["status"] == "success"


async def test_an_export_may_leave_out_messages_or_take_those_of_a_conversation(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        agent_id, other = await new_agent(served), await new_agent(served)
        path = f"/v1/agents/{agent_id}/export"
        talk = await served.json("POST", "/v1/conversations/", params={"agent_id": agent_id}, json={})
        await served.http.post(f"/v1/conversations/{talk['id']}/messages", json=user("elsewhere"))
        scrubbed = await served.json("GET", path, params={"scrub_messages": True})
        assert scrubbed["agents"][0]["messages"] == []
        file = await served.json("GET", path, params={"conversation_id": talk["id"]})
        assert file["agents"][0]["messages"][1]["content"] == [{"type": "text", "text": "elsewhere"}]
        wrong = f"/v1/agents/{other}/export"
        await served.json("GET", wrong, params={"conversation_id": talk["id"]}, status=404)
        await served.json("GET", path, params={"use_legacy_format": True}, status=400)
        missing = "/v1/agents/agent-00000000-0000-4000-8000-000000000000/export"
        await served.json("GET", missing, status=404)
