import anyio
import msgspec
import pytest

from actors import clock, summarise, summary
from actors.commands import CreateConversation, ResetMessages
from actors.commons import HostSettings
from actors.compaction import Done
from actors.errors import ModelError, NotShorterError
from actors.events import Compacted, Event, StepFinished, WindowMoved
from actors.summary import CompactionSettings
from bench.provider import Provider
from storage import activation, conversations
from storage.activation import MAX_ATTEMPTS
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Conversation, Message
from tests.actors.worlds import World, finish, text_of, world
from tests.laws.watching import malformed, until

WINDOW = 4_000
WORDS = "word " * 400  # about 500 tokens
SUMMARY = "The person counts, and likes tea."
SUMS_UP = {"text": SUMMARY, "match": "<conversation>", "repeat": "forever"}
OVERFLOW = {"status": 400, "body": {"error": {"message": "maximum context length exceeded"}}}


def compacted(events: list[Event]) -> list[Compacted]:
    return [e for e in events if isinstance(e, Compacted)]


async def conversation_of(pool: Pool, conversation_id: str) -> Conversation:
    async with connection(pool) as conn:
        return await conversations.get(conn, conversation_id, organization_id=DEFAULT_ORGANIZATION)


async def stored_window(pool: Pool, conversation_id: str) -> list[Message]:
    found = await conversation_of(pool, conversation_id)
    async with connection(pool) as conn:
        return await activation.window(conn, found)


async def talk(w: World, agent_id: str, turns: int, **changes: object) -> list[list[Event]]:
    """Say long things; return the events of each turn."""
    return [await w.ask(agent_id, f"{n} {WORDS}", **changes) for n in range(turns)]


async def test_a_long_talk_is_summed_up_and_goes_on(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([SUMS_UP])
        turns = await talk(w, agent_id, 12)
        assert all(finish(events).stop_reason == "end_turn" for events in turns)
        told = [c for events in turns for c in compacted(events)]
        assert len(told) >= 2
        assert all(c.summary_message_id is not None and c.error is None for c in told)
        for c in told:
            assert c.stats.context_tokens_after < c.stats.context_tokens_before <= WINDOW
            assert c.stats.messages_count_after < c.stats.messages_count_before
        system, held, *rest = await stored_window(pool, agent_id)
        assert (system.role, held.role) == ("system", "summary")
        assert summary.unpack(text_of(held))[0] == SUMMARY
        assert all(m.role != "summary" for m in rest)
        stored = await w.messages(agent_id)
        assert [m.role for m in stored].count("summary") == len(told)
        assert [m.role for m in stored].count("user") == 12
        for record in await provider.log():
            assert malformed(record.body["messages"]) == []


async def test_the_model_sees_the_summary_instead_of_what_it_sums_up(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([SUMS_UP])
        told: list[Compacted] = []
        while not told:
            await provider.log()
            told = compacted(await w.ask(agent_id, WORDS))
        asked, answered = await provider.log()
        assert asked.body["messages"][0]["content"].startswith(summary.PROMPTS["sliding_window"])
        assert "<conversation>\nuser: word" in asked.body["messages"][1]["content"]
        alert = msgspec.json.decode(answered.body["messages"][1]["content"])
        assert (answered.body["messages"][1]["role"], alert["type"]) == ("user", "system_alert")
        assert SUMMARY in alert["message"]
        assert len(answered.body["messages"]) == told[0].stats.messages_count_after + 1
        rebuilt = answered.body["messages"][0]["content"]
        stored = [m for m in await w.messages(agent_id) if m.role in ("user", "assistant")]
        assert f"- {len(stored) - 2} previous messages" in rebuilt


async def test_what_leaves_is_what_was_asked(pool: Pool, provider: Provider) -> None:
    for share in (0.2, 0.5, 0.8):
        async with world(pool, provider) as w:
            await provider.reset()
            settings = {"sliding_window_percentage": share}
            agent_id = await w.agent(
                model="openai/fixed-t5", context_window_tokens=20_000, compaction_settings=settings
            )
            await provider.script([SUMS_UP])
            told: list[Compacted] = []
            while not told:
                told = compacted(await w.ask(agent_id, WORDS))
            before, after = told[0].stats.messages_count_before - 1, told[0].stats.messages_count_after - 2
            assert abs((before - after) / before - share) <= 0.05


async def test_the_row_of_a_conversation_is_written_when_its_window_moves_and_not_at_every_step(
    pool: Pool, provider: Provider
) -> None:
    query = """
    select c.xmin::text as written, n.from_position, n.end_position,
           n.last_message_at > c.created_at as spoken
      from conversations c join conversations_now n using (id) where id = $1
    """

    async def row(agent_id: str) -> dict[str, object]:
        async with connection(pool) as conn:
            return dict((await conn.fetch(query, agent_id))[0])

    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        first, second = [await w.ask(agent_id, "hi") and await row(agent_id) for _ in range(2)]
        assert (first["end_position"], second["end_position"]) == (3, 5)
        assert {**second, "end_position": 3} == first
        assert first["spoken"]
        told: list[Compacted] = []
        while not told:
            told = compacted(await w.ask(agent_id, WORDS))
        moved = await row(agent_id)
        assert moved["written"] != first["written"]
        assert moved["from_position"] != 1
        assert moved["end_position"] == (await w.messages(agent_id))[-1].position + 1


async def test_a_provider_that_finds_the_prompt_too_long_is_asked_again_with_a_summary(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5")
        await talk(w, agent_id, 6)
        await provider.log()
        await provider.script([{**OVERFLOW, "repeat": 2}, SUMS_UP])
        events = await w.ask(agent_id, "and now?")
        assert finish(events).stop_reason == "end_turn"
        # The first overflow is the talk's, the second its summary's: that is asked for in smaller pieces.
        assert [c.stats.trigger for c in compacted(events)] == ["context_window_exceeded"]
        asked = [r.body["messages"] for r in await provider.log()]
        assert len(asked[-1]) < len(asked[0])
        assert SUMMARY in asked[-1][1]["content"]


async def test_an_agent_whose_summariser_fails_goes_on_and_says_so(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        refusal = {"status": 400, "body": {"error": {"message": "no"}}}
        await provider.script([{**refusal, "match": "<conversation>", "repeat": "forever"}])
        turns = await talk(w, agent_id, 12)
        assert all(finish(events).stop_reason == "end_turn" for events in turns)
        told = [c for events in turns for c in compacted(events)]
        assert told
        assert all(c.summary_message_id is None and c.error is not None for c in told)
        moved = [e for events in turns for e in events if isinstance(e, WindowMoved)]
        assert len(moved) == len(told)
        assert all(c.stats.messages_count_after > 3 for c in told)  # never a wipe
        assert "summary" not in {m.role for m in await w.messages(agent_id)}


async def test_a_summary_of_nothing_is_no_summary(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([{"text": " ", "match": "<conversation>", "repeat": "forever"}])
        told = [c for events in await talk(w, agent_id, 8) for c in compacted(events)]
        assert told
        assert {c.error.type for c in told if c.error is not None} == {"llm_empty_response"}


async def test_what_is_longer_than_the_summariser_s_window_is_summed_up_in_pieces(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        await provider.list_models({"small": 3_000})
        await w.host.catalog.list()
        agent_id = await w.agent(
            model="openai/fixed-t5",
            context_window_tokens=20_000,
            compaction_settings={"model": "openai/small", "mode": "all", "clip_chars": 2_000},
        )
        await talk(w, agent_id, 8)
        await provider.log()
        await provider.script([{"text": f"part {n}", "match": "<conversation>"} for n in range(9)])
        async with connection(pool) as conn:
            await conn.execute(
                "update agents set settings = jsonb_set(settings, '{context_window_tokens}', '3000')"
                " where id = $1",
                agent_id,
            )
    async with world(pool, provider) as w:
        await w.host.catalog.list()
        events = await w.ask(agent_id, "next")
        assert finish(events).stop_reason == "end_turn"
        (told,) = compacted(events)
        assert told.error is None
        pieces = [r for r in await provider.log() if r.model == "small"]
        assert len(pieces) > 1
        for number, piece in enumerate(pieces[1:]):
            assert f"<earlier_summary>\npart {number}\n" in piece.body["messages"][1]["content"]


async def test_a_later_summary_holds_the_earlier_one(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([SUMS_UP])
        await talk(w, agent_id, 12)
        asked = [r for r in await provider.log() if "<conversation>" in r.user_text]
        assert len(asked) >= 2
        assert f"<earlier_summary>\n{SUMMARY}\n" not in asked[0].user_text
        assert all(f"<earlier_summary>\n{SUMMARY}\n" in r.user_text for r in asked[1:])


@pytest.mark.parametrize("mode", ["self_compact_all", "self_compact_sliding_window"])
async def test_an_agent_can_sum_up_by_itself(pool: Pool, provider: Provider, mode: str) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(
            model="openai/fixed-t5", context_window_tokens=WINDOW, compaction_settings={"mode": mode}
        )
        await provider.script([{"text": SUMMARY, "match": "no message of a person", "repeat": "forever"}])
        told: list[Compacted] = []
        while not told:
            await provider.log()
            told = compacted(await w.ask(agent_id, WORDS))
        by_itself, answered = await provider.log()
        assert told[0].error is None
        assert by_itself.body["tool_choice"] == "none"
        assert by_itself.body["tools"] == answered.body["tools"]
        assert malformed(by_itself.body["messages"]) == []
        assert (told[0].stats.messages_count_after == 2) == (mode == "self_compact_all")


async def test_where_an_agent_cannot_sum_up_by_itself_another_way_is_found(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(
            model="openai/fixed-t5",
            context_window_tokens=WINDOW,
            compaction_settings={"mode": "self_compact_all"},
        )
        await provider.script([{**OVERFLOW, "match": "no message of a person", "repeat": "forever"}, SUMS_UP])
        told = [c for events in await talk(w, agent_id, 8) for c in compacted(events)]
        assert told
        assert all(c.error is None and c.stats.messages_count_after == 2 for c in told)


async def test_a_summariser_of_another_model_that_fails_is_replaced_by_the_agent_s_own(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(
            model="openai/fixed-t5",
            context_window_tokens=WINDOW,
            compaction_settings={"model": "openai/other"},
        )
        gone = {"status": 404, "body": {"error": {"message": "model not found"}}, "model": "other"}
        await provider.script([{**gone, "repeat": "forever"}, SUMS_UP])
        told = [c for events in await talk(w, agent_id, 8) for c in compacted(events)]
        assert told
        assert all(c.error is None for c in told)
        assert {r.model for r in await provider.log()} == {"fixed-t5", "other"}


async def test_a_system_prompt_that_fills_the_window_ends_the_run_with_that_reason(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=1_000, system=WORDS * 10)
        end = finish(await w.ask(agent_id, "hi"))
        assert end.stop_reason == "context_window_overflow_in_system_prompt"
        assert end.status == "failed"
        assert await provider.log() == []


async def test_conversations_are_compacted_each_by_itself_at_once(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        others = [clock.new_id("conv") for _ in range(3)]
        for other in others:
            await w.host.ref(agent_id).edit(CreateConversation(conversation_id=other))
        await provider.script([{**SUMS_UP, "delay_ms": 20}])
        for _ in range(8):
            receipts = [await w.tell(agent_id, WORDS, conversation_id=c) for c in (agent_id, *others)]
            for receipt in receipts:
                assert finish(await w.events(receipt, agent_id)).stop_reason == "end_turn"
        for conversation_id in (agent_id, *others):
            system, held, *_ = await stored_window(pool, conversation_id)
            assert (system.role, held.role) == ("system", "summary")
            assert held.conversation_id == conversation_id


async def test_a_cancel_during_the_summary_leaves_the_window_as_it_was(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([{"fault": "hang", "match": "<conversation>"}, SUMS_UP])
        receipt = await w.tell(agent_id, WORDS)
        asked = 1
        while True:
            log = await provider.log(requests=asked, keep=True)
            if "<conversation>" in log[-1].user_text:
                break
            await w.events(receipt, agent_id)
            receipt = await w.tell(agent_id, WORDS)
            asked = len(log) + 1
        await w.host.ref(agent_id).cancel((receipt.run_id,))
        events = await w.events(receipt, agent_id)
        assert (finish(events).status, compacted(events)) == ("cancelled", [])
        assert (await conversation_of(pool, agent_id)).from_position == 1
        (told,) = compacted(await w.ask(agent_id, "go on"))
        assert told.error is None


async def test_a_restart_finds_the_summary_and_what_stayed(pool: Pool, provider: Provider) -> None:
    await provider.script([SUMS_UP])
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        while not any(m.role == "summary" for m in await w.messages(agent_id)):
            await w.ask(agent_id, WORDS)
    await provider.log()
    async with world(pool, provider) as w:
        await w.ask(agent_id, "still there?")
        asked = (await provider.log())[-1]
        _, held, *kept, question = asked.body["messages"]
        assert SUMMARY in held["content"]
        assert question["content"] == "still there?"
        stored = await stored_window(pool, agent_id)
        assert len(kept) + 4 == len(stored)  # the answer came since


async def test_a_compaction_counts_in_the_usage_and_the_time_of_its_run(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([SUMS_UP])
        events: list[Event] = []
        while not compacted(events):
            events = await w.ask(agent_id, WORDS)
        (step,) = [e for e in events if isinstance(e, StepFinished)]
        end = finish(events)
        assert end.usage.prompt > step.usage.prompt
        assert end.usage.steps == 1
        assert end.usage.context == step.usage.prompt
        assert step.timing.compaction > 0


async def test_what_a_model_has_not_seen_is_not_summed_up(pool: Pool, provider: Provider) -> None:
    """In the middle of a turn the results of the last step stay, whatever the mode."""
    async with world(pool, provider) as w:
        agent_id = await w.agent(
            model="openai/none", context_window_tokens=WINDOW, compaction_settings={"mode": "all"}
        )
        call = {"name": "memory_insert", "arguments": {"label": "human", "new_string": WORDS * 8}}
        await provider.script([{"text": "hello"}, {"tool_calls": [call]}, SUMS_UP, {"text": "noted"}])
        await w.ask(agent_id, WORDS)
        events = await w.ask(agent_id, "Note it.")
        assert finish(events).stop_reason == "end_turn"
        assert len(compacted(events)) == 1
        answered = (await provider.log())[-1].body["messages"]
        assert [m["role"] for m in answered] == ["system", "user", "user", "assistant", "tool"]
        assert answered[2]["content"] == "Note it."
        assert malformed(answered) == []


# --- on demand ------------------------------------------------------------------------------------


async def test_a_compaction_on_demand_waits_for_the_running_turn(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5")
        await talk(w, agent_id, 5)
        await provider.script([{"text": "slow", "gate": "go", "match": "wait"}, SUMS_UP])
        receipt = await w.tell(agent_id, "wait")
        async with anyio.create_task_group() as group:
            done: list[Done] = []

            async def compact() -> None:
                done.append(await w.host.ref(agent_id).compact(agent_id))

            group.start_soon(compact)
            await provider.log(requests=6)
            assert done == []
            await provider.open("go")
        assert finish(await w.events(receipt, agent_id)).stop_reason == "end_turn"
        assert done[0].text == SUMMARY
        assert done[0].stats.messages_count_before == 13
        assert compacted(await w.ask(agent_id, "and on")) == []


async def test_a_summary_on_demand_that_fails_changes_nothing(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5")
        await talk(w, agent_id, 5)
        await provider.script(
            [{"status": 401, "body": {"error": {"message": "no"}}, "match": "<conversation>"}]
        )
        with pytest.raises(ModelError):
            await w.host.ref(agent_id).compact(agent_id)
        assert (await conversation_of(pool, agent_id)).from_position == 1
        assert finish(await w.ask(agent_id, "go on")).stop_reason == "end_turn"


async def test_a_summary_that_is_asked_for_in_ever_smaller_pieces_has_one_deadline(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5")
        await talk(w, agent_id, 6)
        monkeypatch.setattr(summarise, "SUMMARY_SECONDS", 2.5)
        await provider.script(
            [{**OVERFLOW, "match": "<conversation>", "delay_ms": 1000, "repeat": "forever"}]
        )
        with pytest.raises(ModelError) as raised:
            await w.host.ref(agent_id).compact(agent_id)
        assert raised.value.kind == "llm_timeout"


async def test_what_cannot_become_shorter_is_refused(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5")
        done = await w.host.ref(agent_id).compact(agent_id)
        assert (done.text, done.stats.messages_count_before, done.stats.messages_count_after) == ("", 1, 1)
        await w.ask(agent_id, "hi")
        with pytest.raises(NotShorterError):
            await w.host.ref(agent_id).compact(agent_id)
        settings = CompactionSettings(mode="all")
        await provider.script([SUMS_UP])
        done = await w.host.ref(agent_id).compact(agent_id, settings)
        assert (done.stats.messages_count_before, done.stats.messages_count_after) == (3, 2)


async def test_a_reset_empties_the_window_between_two_turns(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(model="openai/fixed-t5")
        await talk(w, agent_id, 2)
        await provider.log()
        await provider.script([{"text": "slow", "gate": "go", "match": "wait"}])
        receipt = await w.tell(agent_id, "wait")
        await provider.log(requests=1)
        async with anyio.create_task_group() as group:
            group.start_soon(w.host.ref(agent_id).edit, ResetMessages(agent_id))
            await provider.open("go")
        await w.events(receipt, agent_id)
        await provider.log()
        await w.ask(agent_id, "fresh")
        (asked,) = await provider.log()
        assert [m["content"] for m in asked.body["messages"][1:]] == ["fresh"]
        assert [role for role, _ in await w.history(agent_id)].count("user") == 4


async def test_a_command_that_is_given_up_before_the_window_is_read_leaves_its_summary_in_force(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent(model="openai/fixed-t5", context_window_tokens=WINDOW)
        await provider.script([SUMS_UP])
        await talk(w, agent_id, 8)
        await provider.script([{"fault": "hang"}])
        await w.tell(agent_id, "poison")
        await provider.log(requests=1)
    async with connection(pool) as conn:
        await conn.execute("update inbox set attempts = $1 where state <> 'done'", MAX_ATTEMPTS)
    held = (await conversation_of(pool, agent_id)).summary_position
    assert held
    async with world(pool, provider) as w:
        await until(lambda: not w.host.health().unfinished_runs)
        assert (await conversation_of(pool, agent_id)).summary_position == held
        _, summed_up, *_ = await stored_window(pool, agent_id)
        assert summary.unpack(text_of(summed_up))[0] == SUMMARY
