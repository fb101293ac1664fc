import anyio
import anyio.lowlevel
import pytest

from actors import committer
from actors.commands import DeleteAgent, UpdateBlock
from actors.commons import HostSettings
from actors.errors import BusyError, MailboxFullError, NothingToCancelError
from actors.events import BlockChanged, RunStarted, RunSteered, TextDelta
from bench.provider import Provider
from storage import checkpoints
from storage.errors import KeyReusedError, NotFoundError, UnavailableError
from storage.pool import Pool, connection
from storage.records import BlockChanges, ToolReturnPart
from tests.actors.worlds import World, committed, finish, new_block, world


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


async def until_asked(provider: Provider, count: int = 1) -> None:
    """Wait until the provider has received `count` requests."""
    await provider.log(requests=count, keep=True)


async def test_a_message_is_answered_and_stored(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "Hello there"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id, "Hi!")
        assert finish(events).stop_reason == "end_turn"
        assert committed(events) == [("user", "Hi!"), ("assistant", "Hello there")]
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Hello there"
        assert await w.history(agent_id) == [("user", "Hi!"), ("assistant", "Hello there")]


async def test_a_tool_call_edits_memory_and_the_model_goes_on(pool: Pool, provider: Provider) -> None:
    await provider.script([call("memory_insert", label="human", new_string="Likes tea"), {"text": "Noted"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id, "I like tea")
        assert finish(events).stop_reason == "end_turn"
        assert finish(events).usage.steps == 2
        assert [(e.label, e.value, e.version) for e in events if isinstance(e, BlockChanged)] == [
            ("human", "Likes tea", 1)
        ]
        assert await w.value(agent_id) == "Likes tea"
        assert await w.history(agent_id) == [
            ("user", "I like tea"),
            ("assistant", ""),
            ("tool", "Likes tea"),
            ("assistant", "Noted"),
        ]
        first, second = await provider.log()
        assert first.body["messages"][0] == second.body["messages"][0]  # the prompt stays in a turn
        assert second.body["messages"][-1]["role"] == "tool"
        await w.ask(agent_id, "again")
        (third,) = await provider.log()
        assert "Likes tea" in third.body["messages"][0]["content"]


async def test_parallel_calls_have_one_result_each_in_order(pool: Pool, provider: Provider) -> None:
    calls = [
        {"name": "memory_insert", "arguments": {"label": "human", "new_string": "a"}},
        {"name": "no_such_tool", "arguments": {}},
        {"name": "memory_insert", "arguments": {"label": "human", "new_string": "b"}},
        {"name": "memory_replace", "arguments": {"label": "human", "old_string": "zzz", "new_string": ""}},
        {"name": "conversation_search", "arguments": {"query": "nothing"}},
    ]
    await provider.script([{"tool_calls": calls}, {"text": "ok"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id))
        (row,) = [m for m in await w.messages(agent_id) if m.role == "tool"]
        results = [p for p in row.content if isinstance(p, ToolReturnPart)]
        assert [(p.name, p.status) for p in results] == [
            ("memory_insert", "success"),
            ("no_such_tool", "error"),
            ("memory_insert", "success"),
            ("memory_replace", "error"),
            ("conversation_search", "success"),
        ]
        assert results[2].text == "a\nb"
        assert await w.value(agent_id) == "a\nb"


async def test_an_agent_finds_what_was_said_long_ago(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [{"text": "ok"}, call("conversation_search", query="umbrella colour"), {"text": "it was green"}]
    )
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.ask(agent_id, "my umbrella is green")
        events = await w.ask(agent_id, "what was it?")
        (result,) = [text for role, text in committed(events) if role == "tool"]
        assert "my umbrella is green" in result


async def test_max_steps_ends_a_run_that_would_go_on(pool: Pool, provider: Provider) -> None:
    await provider.script([{**call("conversation_search", query="x"), "repeat": "forever"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id, max_steps=3)
        assert finish(events).stop_reason == "max_steps"
        assert finish(events).status == "completed"
        assert finish(events).usage.steps == 3


async def test_three_invalid_calls_end_the_run(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [{"tool_calls": [{"name": "memory_insert", "arguments": "[]"}], "repeat": "forever"}]
    )
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        assert finish(await w.ask(agent_id)).stop_reason == "invalid_tool_call"


async def test_messages_of_one_conversation_are_answered_one_after_the_other(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipts = [await w.tell(agent_id, f"m{i}") for i in range(10)]
        for receipt in receipts:
            finish(await w.events(receipt, agent_id))
        users = [text for role, text in await w.history(agent_id) if role == "user"]
        assert users == [f"m{i}" for i in range(10)]
        roles = [role for role, _ in await w.history(agent_id)]
        assert roles == ["user", "assistant"] * 10
        assert receipts[-1].disposition in {"queued", "started"}


async def test_a_repeated_key_runs_once_and_another_body_is_refused(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first = await w.tell(agent_id, "hi", key="k")
        again = await w.tell(agent_id, "hi", key="k")
        assert (again.replayed, again.run_id) == (True, first.run_id)
        with pytest.raises(KeyReusedError):
            await w.tell(agent_id, "other", key="k")
        finish(await w.events(again, agent_id))
        assert len(await w.history(agent_id)) == 2
        assert w.host.health().unfinished_runs == 0


async def test_an_unknown_agent_is_named(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        with pytest.raises(NotFoundError, match="agent 'agent-none'"):
            await w.tell("agent-none")
        assert w.host.health().unfinished_runs == 0


async def test_the_mailbox_is_bounded_and_says_so(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang", "repeat": "forever"}])
    bounds = HostSettings(max_pending_per_agent=3, drain_seconds=0)
    async with world(pool, provider, settings=bounds) as w:
        agent_id = await w.agent()
        for _ in range(3):
            await w.tell(agent_id)
        with pytest.raises(MailboxFullError):
            await w.tell(agent_id)


async def test_a_busy_conversation_rejects_when_asked_to(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        first = await w.tell(agent_id, when_busy="reject")
        await until_asked(provider)
        with pytest.raises(BusyError) as caught:
            await w.tell(agent_id, when_busy="reject")
        assert caught.value.run_id == first.run_id


async def test_a_conversation_that_is_busy_with_what_is_being_accepted_says_so(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "Yes."}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        said: list[str] = []
        refused: list[str] = []

        async def tell() -> None:
            try:
                said.append((await w.tell(agent_id, when_busy="reject")).run_id)
            except BusyError as error:
                refused.append(error.run_id)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell)
            tasks.start_soon(tell)
        assert refused == said


async def test_steering_joins_the_running_turn_at_its_next_step(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [
            {**call("conversation_search", query="x"), "gate": "step", "gate_after": 0},
            {"text": "in metric, then"},
        ]
    )
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first = await w.tell(agent_id, "how far?")
        await until_asked(provider)
        second = await w.tell(agent_id, "use metric", when_busy="steer")
        assert second.disposition == "steered"
        await provider.open("step")
        events = await w.events(second, agent_id)
        assert isinstance(events[0], RunSteered)
        assert finish(events).run_id == first.run_id
        assert [t for r, t in await w.history(agent_id) if r != "tool"] == [
            "how far?",
            "",
            "use metric",
            "in metric, then",
        ]
        assert await statuses(w) == {"completed": 2}


async def test_steering_an_idle_conversation_is_an_ordinary_message(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id, "hi", when_busy="steer")
        assert receipt.disposition == "started"
        finish(await w.events(receipt, agent_id))


async def test_an_interrupt_keeps_what_was_shown_and_runs_next(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [
            {"text": "one two three four five six seven", "gate": "never", "gate_after": 3},
            {"text": "answer to b"},
        ]
    )
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first = await w.tell(agent_id, "a")
        waiting = await w.tell(agent_id, "c")
        with anyio.fail_after(10):
            async for batch in w.host.ref(agent_id).follow(first.run_id, agent_id):
                if any(isinstance(e.event, TextDelta) for e in batch):
                    break
        urgent = await w.tell(agent_id, "b", when_busy="interrupt")
        assert finish(await w.events(first, agent_id)).status == "cancelled"
        finish(await w.events(urgent, agent_id))
        finish(await w.events(waiting, agent_id))
        history = await w.history(agent_id)
        assert [t for r, t in history if r == "user"] == ["a", "b", "c"]
        partial = history[1][1]
        assert "one two three four five six seven".startswith(partial.strip())
        assert partial
        assert (await w.messages(agent_id))[2].interrupted


async def statuses(w: World) -> dict[str, int]:
    async with connection(w.pool) as conn:
        rows = await conn.fetch("select status, count(*) as n from runs group by status")
    return {row["status"]: row["n"] for row in rows}


async def test_cancel_ends_running_and_queued_runs(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        running, queued = await w.tell(agent_id, "a"), await w.tell(agent_id, "b")
        await until_asked(provider)
        ended = await w.host.ref(agent_id).cancel()
        assert ended == {running.run_id: "cancelled", queued.run_id: "cancelled"}
        assert finish(await w.events(running, agent_id)).status == "cancelled"
        assert finish(await w.events(queued, agent_id)).status == "cancelled"
        assert await statuses(w) == {"cancelled": 2}
        with pytest.raises(NothingToCancelError):
            await w.host.ref(agent_id).cancel()
        assert finish(await w.ask(agent_id, "c")).status == "completed"
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["a", "b", "c"] or [
            t for r, t in await w.history(agent_id) if r == "user"
        ] == ["b", "a", "c"]


async def test_a_cancel_while_the_database_is_away_is_acknowledged_and_loses_nothing(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"fault": "hang", "match": "a"}])
    failed = anyio.Event()

    async def away(*_: object) -> object:
        failed.set()
        raise UnavailableError("away")

    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        running, queued = await w.tell(agent_id, "a"), await w.tell(agent_id, "b")
        await until_asked(provider)
        with monkeypatch.context() as patch:
            patch.setattr(committer, "OUTAGE_DEADLINE", 0)
            patch.setattr(checkpoints, "commit", away)
            with anyio.fail_after(15):
                assert await w.host.ref(agent_id).cancel((queued.run_id,)) == {queued.run_id: "cancelled"}
                await failed.wait()
        await w.host.ref(agent_id).cancel((running.run_id,))
        finish(await w.events(queued, agent_id))


async def test_a_restart_goes_on_where_the_last_step_ended(pool: Pool, provider: Provider) -> None:
    await provider.script(
        [call("memory_insert", label="human", new_string="fact"), {"fault": "hang"}, {"text": "done"}]
    )
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id, "remember")
        await until_asked(provider, 2)
    async with world(pool, provider) as w:
        events = await w.events(receipt, agent_id)
        assert isinstance(events[0], RunStarted)
        assert events[0].attempt == 2
        assert finish(events).status == "completed"
        assert [t for _, t in await w.history(agent_id)] == ["remember", "", "fact", "done"]
        assert await w.value(agent_id) == "fact"


async def test_a_queue_survives_a_restart_in_order(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent()
        receipts = [await w.tell(agent_id, f"m{i}") for i in range(5)]
        await until_asked(provider)
    async with world(pool, provider) as w:
        for receipt in receipts:
            assert finish(await w.events(receipt, agent_id)).status == "completed"
        assert [t for r, t in await w.history(agent_id) if r == "user"] == [f"m{i}" for i in range(5)]


async def test_idle_agents_leave_memory_and_come_back(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider, settings=HostSettings(passivate_after=0, drain_seconds=2)) as w:
        agent_id = await w.agent()
        await w.ask(agent_id, "one")
        with anyio.fail_after(10):
            while w.host.health().hot_agents:
                await anyio.lowlevel.checkpoint()
        events = await w.ask(agent_id, "two")
        assert finish(events).status == "completed"
        last = (await provider.log())[-1]
        assert [m["content"] for m in last.body["messages"] if m["role"] == "user"] == ["one", "two"]


async def test_an_edit_of_a_block_is_seen_by_every_holder_at_its_next_turn(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        shared = new_block("team", "old")
        one = await w.agent(blocks=(shared,))
        two = await w.agent(blocks=(new_block("human"),))
        async with connection(pool) as conn:
            await conn.execute("insert into agents_blocks values ($1, $2, 'team', 1)", two, shared.id)
        await w.ask(two)
        await w.host.ref(one).edit(UpdateBlock(label="team", changes=BlockChanges(value="fresh news")))
        assert await w.value(one, "team") == "fresh news"
        await provider.reset()
        await w.ask(two)
        (request,) = await provider.log()
        assert "fresh news" in request.body["messages"][0]["content"]


async def test_deleting_an_agent_ends_its_runs_and_keeps_its_blocks(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.tell(agent_id)
        await until_asked(provider)
        await w.host.ref(agent_id).edit(DeleteAgent())
        with pytest.raises(NotFoundError):
            await w.tell(agent_id)
        async with connection(pool) as conn:
            assert await conn.fetchval("select count(*) from agents") == 0
            assert await conn.fetchval("select count(*) from messages") == 0
            assert await conn.fetchval("select count(*) from blocks") == 1
        assert w.host.health().unfinished_runs == 0
        assert w.host.health().hot_agents == 0


async def test_a_refused_input_is_listed_and_never_sent_again(pool: Pool, provider: Provider) -> None:
    refusal = {"error": {"message": "Invalid content", "type": "invalid_request_error"}}
    await provider.script([{"status": 400, "body": refusal}, {"text": "fine"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id, "poison")
        assert (finish(events).status, finish(events).stop_reason) == ("failed", "llm_api_error")
        assert await w.history(agent_id) == [("user", "poison")]
        await provider.log()
        await w.ask(agent_id, "hello")
        (request,) = await provider.log()
        assert "poison" not in str(request.body)


async def test_a_cut_after_text_was_shown_keeps_the_partial_text(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three four five", "fault": "cut_after", "tokens": 2}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        events = await w.ask(agent_id)
        assert finish(events).stop_reason == "llm_api_error"
        shown = "".join(e.text for e in events if isinstance(e, TextDelta))
        assert shown
        assert (await w.history(agent_id))[-1] == ("assistant", shown)
        assert finish(await w.ask(agent_id, "again")).status == "completed"


async def test_a_host_tells_which_blocks_were_written_and_which_agents_live_and_ask(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([call("conversation_search", query="x"), {"text": "done"}])
    written: list[str] = []
    async with world(pool, provider) as w:
        w.host.on_block.append(written.append)
        block = new_block("human")
        agent_id = await w.agent(
            blocks=(block,), tool_rules=({"type": "requires_approval", "tool_name": "conversation_search"},)
        )
        assert w.host.alive(agent_id) is None
        await w.host.ref(agent_id).edit(UpdateBlock(label="human", changes=BlockChanges(value="tea")))
        assert written == [block.id]
        assert w.host.alive(agent_id) is not None
        assert not w.host.is_asking(agent_id)
        await w.ask(agent_id)
        assert w.host.is_asking(agent_id)
        await w.host.block_deleted(block.id)
        assert written == [block.id, block.id]
