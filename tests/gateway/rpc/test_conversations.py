"""Conversations are opened and read over the websocket as over REST."""

from typing import Any

from bench.provider import Provider
from gateway.auth import SCOPES, THOUGHTS, Caller
from storage.pool import Pool
from tests.gateway.calling import Calls
from tests.gateway.rest.talking import new_agent, talking, user


async def test_a_conversation_is_opened_as_rest_shows_it(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        made = await call("conversation.create", agent=agent, summary="s", description="d")
        assert made == await served.json("GET", f"/v1/conversations/{made['id']}")
        assert (made["agent_id"], made["summary"], made["description"]) == (agent, "s", "d")
        await call.refused("conversation.create", 404, "not known", agent=agent, model="x/y")
        await call.refused(
            "conversation.create", 422, "model_settings", agent=agent, modelSettings={"temperature": "hot"}
        )


async def test_history_is_read_page_by_page_to_both_ends(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "answer", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        for n in range(3):
            await served.json("POST", f"/v1/agents/{agent}/messages", json=user(f"message {n}"))
        call = Calls(served)
        whole = await call("history", agent=agent, limit=1000)
        assert whole == {
            "messages": await served.json("GET", f"/v1/agents/{agent}/messages", params={"limit": 1000}),
            "more": False,
        }
        assert (await call("history", conversation=agent, limit=1000)) == whole
        for order, cursor in (("desc", "before"), ("asc", "after")):
            pages: list[Any] = []
            at: dict[str, str] = {}
            while True:
                page = await call("history", agent=agent, limit=2, order=order, **at)
                pages.append(page["messages"])
                if not page["more"]:
                    break
                at = {cursor: page["messages"][0 if order == "desc" else -1]["id"]}
            if order == "desc":
                pages.reverse()
            assert [m for page in pages for m in page] == whole["messages"]
        await call.refused("history", 404, "not found", agent=agent, before="message-1")


async def test_a_page_of_large_messages_is_short_and_the_next_one_goes_on(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "answer", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        texts = [letter * 100_000 for letter in "abcd"]
        for text in texts:
            await served.json("POST", f"/v1/agents/{agent}/messages", json=user(text))
        call = Calls(served)
        found: list[str] = []
        page: Any = {"more": True, "messages": [{"id": None}]}
        while page["more"]:
            page = await call("history", agent=agent, limit=1000, before=page["messages"][0]["id"])
            assert sum(len(m["content"]) for m in page["messages"] if "content" in m) < 256 * 1024
            found = [m["content"] for m in page["messages"] if m["message_type"] == "user_message"] + found
        assert found == texts
        await served.json("POST", f"/v1/agents/{agent}/messages", json=user("x" * 600_000))
        last = (await call("history", agent=agent, limit=2))["messages"]
        assert [m["message_type"] for m in last] == ["assistant_message"]
        await call.refused("history", 413, "over REST", agent=agent, limit=1, before=last[0]["id"])


async def test_thoughts_are_left_out_for_who_may_not_see_them(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "answer", "reasoning": "because"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        await served.json("POST", f"/v1/agents/{agent}/messages", json=user("why?"))
        every = (await Calls(served)("history", agent=agent))["messages"]
        blind = Calls(served, Caller("token:a", scopes=SCOPES - {THOUGHTS}))
        seen = (await blind("history", agent=agent))["messages"]
        left_out = {m["message_type"] for m in every} - {m["message_type"] for m in seen}
        assert left_out == {"reasoning_message", "system_message"}
        assert "because" not in str(seen)
        assert seen


async def test_the_memory_in_the_system_prompt_is_left_out_for_who_may_not_see_it(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": "a secret diary"}])
        every = (await Calls(served)("history", agent=agent))["messages"]
        assert "a secret diary" in str(every)
        blind = Calls(served, Caller("token:a", scopes=SCOPES - {THOUGHTS}))
        assert "a secret diary" not in str(await blind("history", agent=agent))
