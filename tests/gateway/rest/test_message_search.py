"""Messages are found by their words: of one conversation, of one agent, or of all."""

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import new_agent, talking, user

PATH = "/v1/messages/search"


async def test_messages_of_the_agent_are_found_the_best_first(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "Rye bread it is."}, {"text": "Tea."}, {"text": "None of it."}])
    async with talking(pool, provider) as served:
        agent_id, other = await new_agent(served), await new_agent(served)
        talk = await served.json("POST", "/v1/conversations/", params={"agent_id": agent_id}, json={})
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("I bake bread"))
        await served.http.post(
            f"/v1/conversations/{talk['id']}/messages", json=user("What of bread and tea?")
        )
        await served.json("POST", f"/v1/agents/{other}/messages", json=user("bread for others"))
        found = await served.json("POST", PATH, json={"query": "bread", "agent_id": agent_id})
        assert {(m["message_type"], m["content"], m["conversation_id"]) for m in found} == {
            ("user_message", "I bake bread", None),
            ("assistant_message", "Rye bread it is.", None),
            ("user_message", "What of bread and tea?", talk["id"]),
        }
        assert {m["agent_id"] for m in found} == {agent_id}
        best = await served.json("POST", PATH, json={"query": "bread tea", "agent_id": agent_id, "limit": 1})
        assert [m["content"] for m in best] == ["What of bread and tea?"]
        old = {"query": "bread", "agent_id": agent_id, "end_date": "2020-01-01T00:00:00Z"}
        assert await served.json("POST", PATH, json=old) == []


async def test_one_conversation_or_every_agent_is_searched(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "Yes."}] * 3)
    async with talking(pool, provider) as served:
        agent_id, other = await new_agent(served), await new_agent(served)
        talk = (await served.json("POST", "/v1/conversations/", params={"agent_id": agent_id}, json={}))["id"]
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("bread by default"))
        await served.http.post(f"/v1/conversations/{talk}/messages", json=user("bread aside"))
        await served.json("POST", f"/v1/agents/{other}/messages", json=user("bread for others"))

        async def found(**where: str) -> list[tuple[str, str]]:
            hits = await served.json("POST", PATH, json={"query": "bread", **where})
            return sorted((hit["content"], hit["agent_id"]) for hit in hits)

        mine = [("bread aside", agent_id), ("bread by default", agent_id)]
        assert await found() == [*mine, ("bread for others", other)]
        assert await found(agent_id=agent_id) == mine
        assert await found(conversation_id=talk) == await found(conversation_id=talk, agent_id=agent_id)
        assert await found(conversation_id=talk) == mine[:1]
        assert await found(conversation_id="default", agent_id=agent_id) == mine[1:]
        assert await found(conversation_id=agent_id) == mine[1:]
        inside = {"query": "bread", "conversation_id": talk, "agent_id": other}
        await served.json("POST", PATH, json=inside, status=404)


async def test_a_date_is_a_whole_day_and_times_without_an_offset_are_utc(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "Yes."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("bread"))
        asked = {"query": "bread", "agent_id": agent_id}
        (found,) = await served.json("POST", PATH, json=asked)
        at = found["created_at"].removesuffix("Z").removesuffix("+00:00")
        day = at[:10]
        assert await served.json("POST", PATH, json={**asked, "start_date": day, "end_date": day}) == [found]
        assert await served.json("POST", PATH, json={**asked, "start_date": at, "end_date": at}) == [found]
        assert await served.json("POST", PATH, json={**asked, "end_date": f"{at}+00:01"}) == []
        wrong = await served.json("POST", PATH, json={**asked, "end_date": "someday"}, status=422)
        assert "end_date" in wrong["detail"]


async def test_a_search_that_cannot_be_made_is_refused(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        alone = {"query": "x", "conversation_id": "default"}
        await served.json("POST", PATH, json=alone, status=422)
        await served.json("POST", PATH, json={"agent_id": agent_id}, status=422)
        await served.json("POST", PATH, json={"query": "x", "agent_id": "agent-1"}, status=422)
        missing = "agent-00000000-0000-4000-8000-000000000000"
        await served.json("POST", PATH, json={"query": "x", "agent_id": missing}, status=404)
        await served.json("POST", PATH, json={"query": "x", "conversation_id": "conv-1"}, status=422)
        gone = {"query": "x", "conversation_id": "conv-00000000-0000-4000-8000-000000000000"}
        await served.json("POST", PATH, json=gone, status=404)
