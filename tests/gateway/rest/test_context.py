"""What models see of a conversation, over REST."""

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import MODEL, talking

SUMS_UP = {"text": "They count.", "match": "<conversation>", "repeat": "forever"}


async def test_a_window_is_measured_before_and_after_it_is_summed_up(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with talking(pool, provider) as served:
        agent = await served.agent(model=MODEL, context_window_limit=9000)
        path = f"/v1/agents/{agent['id']}"
        for n in range(4):
            await served.json("POST", f"{path}/messages", json={"input": f"say {n}"})
        before = await served.json("GET", f"{path}/context")
        done = await served.json("POST", f"{path}/compact", json={"compaction_settings": {"mode": "all"}})
        after = await served.json("GET", f"{path}/context", params={"conversation_id": "default"})
    assert (before["num_messages"], before["summary_memory"]) == (9, None)
    assert done == {"summary": "They count.", "num_messages_before": 9, "num_messages_after": 2}
    assert (after["num_messages"], after["summary_memory"]) == (2, "They count.")
    assert after["context_window_size_max"] == 9000
    assert after["num_tokens_functions_definitions"] == before["num_tokens_functions_definitions"] > 0
    assert after["functions_definitions"][0]["function"]["name"] == "conversation_search"
    assert after["num_recall_memory"] == 9


async def test_what_is_not_there_or_not_possible_is_refused(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent, other = await served.agent(model=MODEL), await served.agent(model=MODEL)
        path = f"/v1/agents/{agent['id']}"
        await served.json("GET", f"{path}/context", params={"conversation_id": other["id"]}, status=404)
        missing = "/v1/agents/agent-00000000-0000-4000-8000-000000000000"
        for method, route in (("POST", "summarize"), ("POST", "recompile"), ("PATCH", "reset-messages")):
            await served.json(method, f"{missing}/{route}", status=404)
        for settings in ({"mode": "half"}, {"sliding_window_percentage": 0}, {"model": "x"}):
            body = {"compaction_settings": settings}
            await served.json("POST", f"{path}/summarize", json=body, status=422)
        body = {"compaction_settings": {"model": "nobody/nothing"}}
        await served.json("POST", f"{path}/summarize", json=body, status=404)
        await served.json("POST", f"{path}/messages", json={"input": "one"})
        refused = await served.json("POST", f"{path}/summarize", status=400)
        assert refused["detail"].startswith("Summarization failed to reduce the number of messages")


async def test_a_summariser_that_is_down_is_the_caller_s_to_know(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await served.agent(model=MODEL)
        path = f"/v1/agents/{agent['id']}"
        for n in range(3):
            await served.json("POST", f"{path}/messages", json={"input": f"say {n}"})
        await provider.script([{"status": 401, "body": {"error": {"message": "bad key"}}}])
        await served.json("POST", f"{path}/summarize", status=401)
        assert len((await served.json("GET", path))["message_ids"]) == 7


async def test_an_agent_of_an_older_type_begins_anew_as_it_began(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await served.agent(model=MODEL, agent_type="memgpt_v2_agent")
        path = f"/v1/agents/{agent['id']}"
        began = len(agent["message_ids"])
        body = {"add_default_initial_messages": True}
        assert await served.json("PATCH", f"{path}/reset-messages", json=body) is None
        again = (await served.json("GET", path))["message_ids"]
        assert len(again) == began > 1
        assert again[0] == agent["message_ids"][0]
        assert not set(again[1:]) & set(agent["message_ids"])
        await served.json("PATCH", f"{path}/reset-messages")
        assert (await served.json("GET", path))["message_ids"] == again[:1]
