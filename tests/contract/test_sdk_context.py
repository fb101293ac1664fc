"""The official SDK, unchanged, compacts, recompiles and resets what models see."""

from typing import Any

import letta_client
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import connected

SUMS_UP = {"text": "They count.", "match": "<conversation>", "repeat": "forever"}
LONG = "word " * 400


async def test_compacting_on_demand_shortens_what_models_see(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with connected(pool, provider) as c:
        for n in range(5):
            await c.say(f"say {n}")
        before = (await c.client.agents.retrieve(c.agent_id)).message_ids
        done = await c.client.agents.messages.compact(c.agent_id)
        after = (await c.client.agents.retrieve(c.agent_id)).message_ids
        listed = [m async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
    assert done is not None
    assert (done.summary, done.num_messages_before, done.num_messages_after) == ("They count.", 11, 9)
    assert (len(before), len(after)) == (11, 9)
    assert after[0] == before[0]
    assert after[2:] == before[4:]
    [told] = [m for m in listed if m.message_type == "summary_message"]
    assert (told.id, told.summary) == (after[1], "They count.")
    assert told.compaction_stats is not None
    assert told.compaction_stats.trigger == "manual"


async def test_one_compaction_can_have_settings_of_its_own(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with connected(pool, provider) as c:
        for n in range(3):
            await c.say(f"say {n}")
        done = await c.client.agents.messages.compact(c.agent_id, compaction_settings={"mode": "all"})
        again = await c.client.agents.messages.compact(c.agent_id)
    assert (done.num_messages_before, done.num_messages_after) == (7, 2)
    assert (again.summary, again.num_messages_before, again.num_messages_after) == ("They count.", 2, 2)


async def test_too_few_messages_are_not_compacted(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        await c.say("one")
        with pytest.raises(letta_client.BadRequestError, match="failed to reduce the number of messages"):
            await c.client.agents.messages.compact(c.agent_id)
        assert len((await c.client.agents.retrieve(c.agent_id)).message_ids) == 3


async def test_a_conversation_is_compacted_by_itself(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with connected(pool, provider) as c:
        conversation = await c.client.conversations.create(agent_id=c.agent_id)
        for n in range(4):
            await c.client.conversations.messages.create(conversation.id, input=f"say {n}", streaming=False)
        done = await c.client.conversations.messages.compact(conversation.id)
        found = await c.client.conversations.retrieve(conversation.id)
    assert (done.num_messages_before, done.num_messages_after) == (9, 8)
    assert len(found.in_context_message_ids) == 8


async def test_a_client_that_asks_is_told_of_compactions(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with connected(pool, provider, context_window_limit=4000) as c:
        seen: list[Any] = []
        while not seen:
            chunks = await c.chunks(LONG, include_compaction_messages=True)
            seen = [x for x in chunks if x.message_type in ("event_message", "summary_message")]
    event, told = seen
    assert (event.event_type, event.event_data["context_window"]) == ("compaction", 4000)
    assert event.event_data["context_token_estimate"] > 0
    assert told.summary == "They count."
    stats = told.compaction_stats
    assert stats["context_tokens_after"] < stats["context_tokens_before"]


async def test_other_clients_see_a_message(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with connected(pool, provider, context_window_limit=4000) as c:
        seen: list[Any] = []
        while not seen:
            answer = await c.say(LONG)
            seen = [m for m in answer.messages if m.message_type == "user_message"]
    assert '"system_alert"' in seen[0].content
    assert "They count." in seen[0].content


async def test_a_prompt_is_recompiled_and_shown(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        looked = await c.client.agents.recompile(c.agent_id, dry_run=True)
        done = await c.client.agents.recompile(c.agent_id)
        conversation = await c.client.conversations.create(agent_id=c.agent_id)
        other = await c.client.conversations.recompile(conversation.id)
    assert f"- AGENT_ID: {c.agent_id}" in looked
    assert "- CONVERSATION_ID: default" in done
    assert f"- CONVERSATION_ID: {conversation.id}" in other


async def test_a_reset_leaves_the_system_message_and_the_history(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        await c.say("one")
        assert await c.client.agents.messages.reset(c.agent_id, add_default_initial_messages=True) is None
        assert len((await c.client.agents.retrieve(c.agent_id)).message_ids) == 1
        await provider.log()
        answer = await c.say("two")
        [asked] = await provider.log()
        listed = [m.message_type async for m in c.client.agents.messages.list(c.agent_id, order="asc")]
    assert answer.stop_reason.stop_reason == "end_turn"
    assert [m["content"] for m in asked.body["messages"][1:]] == ["two"]
    assert listed.count("user_message") == 2


async def test_compaction_settings_are_kept_as_they_are_in_force(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c:
        made = await c.client.agents.retrieve(c.agent_id)
        assert made.compaction_settings is not None
        assert made.compaction_settings.model == made.model
        assert made.compaction_settings.mode == "sliding_window"
        assert made.compaction_settings.sliding_window_percentage == 0.3
        assert made.compaction_settings.prompt
        changed = await c.client.agents.update(
            c.agent_id,
            compaction_settings={"mode": "self_compact_all", "prompt": "Sum up.", "clip_chars": 100},
        )
        assert changed.compaction_settings is not None
        assert (changed.compaction_settings.mode, changed.compaction_settings.prompt) == (
            "self_compact_all",
            "Sum up.",
        )
        with pytest.raises(letta_client.UnprocessableEntityError):
            await c.client.agents.update(c.agent_id, compaction_settings={"sliding_window_percentage": 2.0})
