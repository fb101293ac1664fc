"""What clients read of histories beside messages: without errors, searched as older clients do, in use."""

from typing import Any

import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL, connected, user


async def test_messages_that_no_model_takes_are_left_out_when_a_client_wants_no_errors(
    pool: Pool, provider: Provider
) -> None:
    refused: Any = {"status": 400, "body": {"error": {"message": "no", "type": "invalid_request_error"}}}
    await provider.script([{"text": "one"}, refused, {"text": "three"}])
    async with connected(pool, provider) as c:
        await c.say("first")
        with pytest.raises(letta_client.BadRequestError):
            await c.say("second")
        await c.say("third")
        lists: Any = [
            (c.client.agents.messages.list, (c.agent_id,), {"order": "asc"}),
            (c.client.conversations.messages.list, ("default",), {"order": "asc", "agent_id": c.agent_id}),
        ]
        for list_, where, query in lists:
            whole = [m.content async for m in list_(*where, limit=2, **query)]
            assert whole[1:] == ["first", "one", "second", "third", "three"]
            sound = [m.content async for m in list_(*where, limit=2, include_err=False, **query)]
            assert sound == [text for text in whole if text != "second"]


async def test_older_clients_find_messages_with_their_ranks(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        await provider.script([{"text": "Green tea."}, {"text": "Hm."}])
        await c.say("What do I drink?")
        await c.say("Is tea black?")

        async def found(**request: Any) -> list[Any]:
            path = "/v1/agents/messages/search"
            return await c.client.post(path, body=request, cast_to=list[Any])

        best, *_ = both = await found(query="tea")
        assert {hit["embedded_text"] for hit in both} == {"Green tea.", "Is tea black?"}
        assert [hit["fts_rank"] for hit in both] == [1, 2]
        assert both[0]["rrf_score"] > both[1]["rrf_score"]
        assert best["message"]["agent_id"] == c.agent_id
        assert best["message"]["content"] == [{"type": "text", "text": best["embedded_text"]}]
        [said] = await found(query="tea", roles=["assistant"], agent_id=c.agent_id)
        assert (said["embedded_text"], said["message"]["role"]) == ("Green tea.", "assistant")
        assert len(await found(roles=["user"], agent_id=c.agent_id)) == 2
        assert await found(query="tea", template_id="template-1") == []


async def test_runs_tell_what_they_took_and_which_are_active(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}, {"text": "slow", "gate": "go"}])
    async with connected(pool, provider) as c:
        run_id = (await c.say("I like tea")).messages[-1].run_id
        tools = {tool.name: tool.id async for tool in c.client.agents.tools.list(c.agent_id)}
        metrics = await c.client.get(f"/v1/runs/{run_id}/metrics", cast_to=dict[str, Any])
        assert (metrics["id"], metrics["agent_id"], metrics["num_steps"]) == (run_id, c.agent_id, 2)
        assert metrics["tools_used"] == [tools["memory_insert"]]
        assert metrics["run_ns"] > 0
        waiting = await c.client.agents.messages.create_async(c.agent_id, messages=[user("x")])
        active = await c.client.get("/v1/runs/active", cast_to=list[Any])
        assert [run["id"] for run in active] == [waiting.id]
        foreground = "/v1/runs/active?background=false"
        assert await c.client.get(foreground, cast_to=list[Any]) == []
        await provider.open("go")
