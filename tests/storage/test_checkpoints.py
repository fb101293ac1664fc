from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from actors import clock
from storage import activation, checkpoints, conversations, inbox, steps, words
from storage.checkpoints import BlockWrite, Checkpoint, InboxUpdate, MessageRewrite, RunUpdate, WindowUpdate
from storage.errors import ConflictError, FencedError, RefusedError, StaleBlocksError
from storage.inbox import Accepted
from storage.pool import Conn, Pool, connection, open_lookup_pool
from storage.records import DEFAULT_ORGANIZATION, Step, TextPart, Timing, ToolCall, Usage
from tests.storage import seeds


async def accepted(conn: Conn, agent_id: str) -> Accepted:
    (verdict,) = await inbox.accept(conn, [seeds.submission(agent_id)])
    assert isinstance(verdict, Accepted)
    return verdict


def step_of(agent_id: str, command: Accepted, *, text: str = "hello", **changes: object) -> Checkpoint:
    """A checkpoint that ends the run of `command` with one message."""
    fields = {
        "id": clock.new_id("ckpt"),
        "agent_id": agent_id,
        "fence": 0,
        "version": 0,
        "messages": (seeds.message(agent_id, 1, text, run_id=command.run_id),),
        "runs": (
            RunUpdate(
                id=command.run_id,
                status="completed",
                usage=Usage(prompt=3, steps=1),
                stop_reason="end_turn",
                completed_at=datetime.now(UTC),
            ),
        ),
        "inbox": (InboxUpdate(seq=command.seq, state="done"),),
        "windows": (WindowUpdate(id=agent_id, from_position=1, end_position=2),),
        "stop_reason": "end_turn",
    }
    return Checkpoint(**{**fields, **changes})  # type: ignore[arg-type]


async def test_a_step_commits_everything_it_changed(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        block_id = await seeds.block(conn, agent_id, value="old")
        command = await accepted(conn, agent_id)
        step = Step(
            id=clock.new_id("step"),
            organization_id=DEFAULT_ORGANIZATION,
            agent_id=agent_id,
            run_id=command.run_id,
            position=0,
            status="success",
            model="openai/echo",
            provider="openai",
            created_at=datetime.now(UTC),
        )
        system = await conn.fetchval("select id from messages where position = 0")
        checkpoint = step_of(
            agent_id,
            command,
            steps=(step,),
            blocks=(BlockWrite(id=block_id, version=0, value="new"),),
            rewrites=(MessageRewrite(id=system, content=(TextPart("rebuilt"),), tokens=2),),
            tool_calls=(
                ToolCall(agent_id=agent_id, step_id=step.id, call_id="c1", name="x", state="success"),
            ),
        )
        assert await checkpoints.commit(conn, [checkpoint]) == [None]
        state = await activation.activate(conn, agent_id, fence=0)
        assert (state.agent.version, state.agent.checkpoint_id) == (1, checkpoint.id)
        assert state.agent.last_stop_reason == "end_turn"
        assert [(b.value, b.version) for b in state.blocks] == [("new", 1)]
        assert state.pending == ()
        window = await activation.window(conn, state.conversations[0])
        assert [m.content for m in window] == [(TextPart("rebuilt"),), (TextPart("hello"),)]
        run = await conn.fetchrow("select status, stop_reason, completed_at is not null as ended from runs")
        assert run is not None
        assert tuple(run.values()) == ("completed", "end_turn", True)
        assert await conn.fetchval("select state from inbox") == "done"
        assert await conn.fetchval("select count(*) from steps") == 1
        assert await conn.fetchval("select state from tool_calls") == "success"


@pytest.mark.parametrize(("fence", "version"), [(1, 0), (0, 1)], ids=["fence", "version"])
async def test_a_step_of_an_old_owner_writes_nothing(pool: Pool, fence: int, version: int) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        await conn.execute("update agents set fence = $1, version = $2", fence, version)
        (outcome,) = await checkpoints.commit(conn, [step_of(agent_id, command)])
        assert isinstance(outcome, FencedError)
        assert await conn.fetchval("select count(*) from messages where position > 0") == 0
        assert await conn.fetchval("select status from runs") == "created"
        assert await conn.fetchval("select state from inbox") == "new"


async def test_a_command_that_is_over_is_not_handled_again(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        assert await checkpoints.commit(conn, [step_of(agent_id, command)]) == [None]
        again = step_of(agent_id, command, version=1)
        (outcome,) = await checkpoints.commit(conn, [again])
        assert isinstance(outcome, FencedError)
        assert await conn.fetchval("select count(*) from messages where position > 0") == 1


async def test_each_step_of_a_batch_has_its_own_verdict(pool: Pool) -> None:
    async with connection(pool) as conn:
        agents = [await seeds.agent(conn) for _ in range(3)]
        commands = [await accepted(conn, a) for a in agents]
        await conn.execute("update agents set fence = 7 where id = $1", agents[1])
        batch = [step_of(a, c) for a, c in zip(agents, commands, strict=True)]
        first, second, third = await checkpoints.commit(conn, batch)
        assert (first, third) == (None, None)
        assert isinstance(second, FencedError)
        written = await conn.fetch("select agent_id from messages where position > 0")
        assert {row["agent_id"] for row in written} == {agents[0], agents[2]}


async def test_a_stale_block_stops_its_whole_step_and_no_other(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, two = await seeds.agent(conn), await seeds.agent(conn)
        block_id = await seeds.block(conn, one, two)
        await conn.execute("update blocks set version = 4")
        stale = step_of(
            one, await accepted(conn, one), blocks=(BlockWrite(id=block_id, version=3, value="x"),)
        )
        good = step_of(
            two, await accepted(conn, two), blocks=(BlockWrite(id=block_id, version=4, value="y"),)
        )
        first, second = await checkpoints.commit(conn, [stale, good])
        # Whichever comes first by agent id holds the block's turn, so the good one may be asked again.
        assert isinstance(first, StaleBlocksError)
        assert first.block_ids == (block_id,)
        if second is not None:
            assert await checkpoints.commit(conn, [good]) == [None]
        assert await conn.fetchval("select value from blocks") == "y"
        assert await conn.fetchval("select count(*) from messages where position > 0") == 1


async def test_two_steps_that_write_one_block_in_one_batch_lose_no_edit(pool: Pool) -> None:
    async with connection(pool) as conn:
        agents = sorted([await seeds.agent(conn) for _ in range(2)])
        block_id = await seeds.block(conn, *agents)
        batch = [
            step_of(a, await accepted(conn, a), blocks=(BlockWrite(id=block_id, version=0, value=a),))
            for a in agents
        ]
        first, second = await checkpoints.commit(conn, batch)
        assert first is None
        assert isinstance(second, StaleBlocksError)
        row = await conn.fetchrow("select value, version from blocks")
        assert row is not None
        assert tuple(row.values()) == (agents[0], 1)


async def test_content_the_database_refuses_commits_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        agents = [await seeds.agent(conn) for _ in range(2)]
        commands = [await accepted(conn, a) for a in agents]
    batch = [step_of(a, c, text=t) for a, c, t in zip(agents, commands, ["fine", "a\x00b"], strict=True)]
    with pytest.raises(RefusedError):
        async with connection(pool) as conn:
            await checkpoints.commit(conn, batch)
    async with connection(pool) as conn:
        assert await conn.fetchval("select count(*) from messages where position > 0") == 0
        assert await checkpoints.commit(conn, batch[:1]) == [None]


async def test_a_lost_answer_is_resolved_by_the_checkpoint_id(pool: Pool) -> None:
    async with connection(pool) as conn:
        agents = [await seeds.agent(conn) for _ in range(2)]
        batch = [step_of(a, await accepted(conn, a)) for a in agents]
        await checkpoints.commit(conn, batch[:1])
        assert await checkpoints.landed(conn, batch) == [True, False]


async def test_a_checkpoint_costs_the_same_whatever_the_history(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await conn.execute(
            "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)"
            " select 'message-' || g, $1, g, $1, $2, 'user', '[]' from generate_series(1, 5000) g",
            agent_id,
            DEFAULT_ORGANIZATION,
        )
        await conn.execute("analyze messages")
        command = await accepted(conn, agent_id)
        step = step_of(agent_id, command, messages=(seeds.message(agent_id, 5001, "x"),))
        before = await conn.fetchval("select seq_scan from pg_stat_user_tables where relname = 'messages'")
        assert await checkpoints.commit(conn, [step]) == [None]
        await conn.execute("select pg_stat_force_next_flush()")
        after = await conn.fetchval("select seq_scan from pg_stat_user_tables where relname = 'messages'")
        assert after == before


async def test_accepting_and_committing_read_no_more_rows_as_the_tables_grow(dsn: str) -> None:
    read = (
        "select sum(idx_tup_read) + (select sum(seq_tup_read) from pg_stat_user_tables)"
        " from pg_stat_user_indexes"
    )
    pool = await open_lookup_pool(dsn, size=1)
    try:
        async with connection(pool) as conn:
            agent_id = await seeds.agent(conn)

            async def one(version: int) -> None:
                step = step_of(
                    agent_id,
                    await accepted(conn, agent_id),
                    version=version,
                    messages=(seeds.message(agent_id, version + 1, "x"),),
                    windows=(WindowUpdate(id=agent_id, from_position=1, end_position=version + 2),),
                )
                assert await checkpoints.commit(conn, [step]) == [None]

            async def rows_read(version: int) -> int:
                await conn.execute("select pg_stat_force_next_flush()")
                before = await conn.fetchval(read)
                for i in range(5):
                    await one(version + i)
                await conn.execute("select pg_stat_force_next_flush()")
                return int(await conn.fetchval(read) - before)

            few = await rows_read(0)
            for version in range(5, 150):
                await one(version)
            assert await rows_read(150) <= few + 20
    finally:
        await pool.close()


# --- the common shape, written by a statement of its own ---------------------------------------------


def plain(agent_id: str, command: Accepted, **changes: object) -> Checkpoint:
    """A step with everything that the common shape has: a run, a model call, messages, a window."""
    step = Step(
        id=clock.new_id("step"),
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent_id,
        run_id=command.run_id,
        position=0,
        status="success",
        model="openai/echo",
        provider="openai",
        created_at=datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        context_window_tokens=8000,
        usage=Usage(prompt=3, completion=4),
        stop_reason="end_turn",
        timing=Timing(queue=5, stream=6),
    )
    said = seeds.message(agent_id, 1, "hello", run_id=command.run_id)
    replied = seeds.message(agent_id, 2, "good morning", role="assistant", run_id=command.run_id)
    fields: dict[str, object] = {"steps": (step,), "messages": (said, replied), "duration_ms": 12}
    return step_of(agent_id, command, **{**fields, **changes})


async def rows_of(conn: Conn, agent_id: str) -> dict[str, list[dict[str, object]]]:
    """Everything that is stored of an agent, but for what differs from one agent or moment to the next."""
    owned = ("conversations", "messages", "runs", "inbox", "steps", "tool_calls")
    found: dict[str, list[dict[str, object]]] = {}
    for table, key in {"agents": "id", **dict.fromkeys(owned, "agent_id")}.items():
        order = "position" if table == "messages" else "1"
        rows = await conn.fetch(f"select * from {table} where {key} = $1 order by {order}", agent_id)
        found[table] = [_comparable(dict(row)) for row in rows]
    return found


def _comparable(row: dict[str, object]) -> dict[str, object]:
    given = {"created_at": row.get("created_at")} if "timing" in row else {}
    kept = {
        name: value is not None if isinstance(value, datetime) else value
        for name, value in row.items()
        if name not in {"id", "seq", "shard", "name", "key", "command"} and not name.endswith("_id")
    }
    return {**kept, **given}


@pytest.mark.parametrize("running", [False, True])
async def test_the_common_shape_is_written_as_the_general_statement_writes_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, running: bool
) -> None:
    async with connection(pool) as conn:
        there, here = [await seeds.agent(conn) for _ in range(2)]
        changes: dict[str, object] = {}
        written = []
        for agent_id in (there, here):
            command = await accepted(conn, agent_id)
            if running:
                update = RunUpdate(id=command.run_id, status="running", ttft_ns=7)
                applied = InboxUpdate(seq=command.seq, state="applied")
                changes = {"runs": (update,), "inbox": (applied,), "stop_reason": None, "duration_ms": None}
            window = WindowUpdate(id=agent_id, from_position=1, end_position=3, summary_position=2)
            step = plain(agent_id, command, **changes, windows=(window,))
            if running:
                step = await with_tools(conn, step)
            assert checkpoints.is_plain(step) == (agent_id == there)
            assert await checkpoints.commit(conn, [step]) == [None]
            blocks = await conn.fetch(
                "select value, version from blocks join agents_blocks on id = block_id where agent_id = $1",
                agent_id,
            )
            written.append({**await rows_of(conn, agent_id), "blocks": [dict(row) for row in blocks]})
            monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
        await words.fill(conn, [there, here])
        searched = await conn.fetchval(
            "select count(*) from message_words where words @@ to_tsquery('english', 'morning')"
        )
    assert written[0] == written[1]
    assert [len(rows) for rows in written[0].values()] == [1, 1, 3, 1, 1, 1, int(running), int(running)]
    assert searched == 2


async def with_tools(conn: Conn, step: Checkpoint) -> Checkpoint:
    """The step with what a tool may add to it: a memory edit, a rebuilt system prompt, a call's outcome."""
    block_id = await seeds.block(conn, step.agent_id, value="old")
    system = await conn.fetchval(
        "select id from messages where agent_id = $1 and position = 0", step.agent_id
    )
    call = ToolCall(agent_id=step.agent_id, step_id=step.steps[0].id, call_id="c1", name="x", state="success")
    first, *rest = step.messages
    return replace(
        step,
        messages=(
            replace(first, name="n", otid="o", sender_id="identity-1", step_id="step-1", tokens=4),
            *rest,
        ),
        blocks=(BlockWrite(id=block_id, version=0, value="new"),),
        rewrites=(MessageRewrite(id=system, content=(TextPart("rebuilt"),), tokens=2),),
        tool_calls=(call,),
    )


@pytest.mark.parametrize("common", [False, True])
async def test_a_step_that_was_left_open_is_closed_in_its_row(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, common: bool
) -> None:
    """The first commit holds what the model said; the second the results, and how the step ended."""
    if not common:
        monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        whole = plain(agent_id, command)
        (step,), (asked, said) = whole.steps, whole.messages
        opens = replace(
            whole,
            steps=(replace(step, status="pending", timing=Timing(queue=5)),),
            messages=(asked, replace(said, step_id=step.id)),
            runs=(RunUpdate(id=command.run_id, status="running"),),
            inbox=(InboxUpdate(seq=command.seq, state="applied"),),
            stop_reason=None,
        )
        result = seeds.message(agent_id, 3, "done", role="tool", run_id=command.run_id)
        closes = replace(
            whole,
            id=clock.new_id("ckpt"),
            version=1,
            messages=(replace(result, step_id=step.id),),
            windows=(WindowUpdate(id=agent_id, from_position=1, end_position=4),),
        )
        found: list[Step | None] = []
        for one in (opens, closes):
            assert await checkpoints.commit(conn, [one]) == [None]
            found.append(await steps.find(conn, step.id, organization_id=DEFAULT_ORGANIZATION))
        assert await conn.fetchval("select count(*) from steps where agent_id = $1", agent_id) == 1
    assert [one and (one.status, one.timing, one.position) for one in found] == [
        ("pending", Timing(queue=5), 0),
        ("success", Timing(queue=5, stream=6), 0),
    ]


@pytest.mark.parametrize("common", [False, True])
async def test_a_window_that_only_grows_leaves_its_row_alone(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, common: bool
) -> None:
    """Its messages tell where it ends and when somebody spoke last."""
    if not common:
        monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
    row = "select xmin::text, * from conversations where id = $1"
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        before = await conn.fetchrow(row, agent_id)
        grown = WindowUpdate(
            id=agent_id, from_position=1, end_position=3, summary_position=0, only_grows=True
        )
        step = plain(agent_id, await accepted(conn, agent_id), windows=(grown,))
        assert await checkpoints.commit(conn, [step]) == [None]
        assert await conn.fetchrow(row, agent_id) == before
        found = await conversations.get(conn, agent_id, organization_id=DEFAULT_ORGANIZATION)
        assert (found.from_position, found.end_position, found.summary_position) == (1, 3, None)
        assert found.last_message_at == step.messages[-1].created_at
        whole = plain(agent_id, await accepted(conn, agent_id), version=1)
        moved = WindowUpdate(id=agent_id, from_position=3, end_position=5, summary_position=3)
        said = tuple(replace(m, position=m.position + 2) for m in whole.messages)
        assert await checkpoints.commit(conn, [replace(whole, messages=said, windows=(moved,))]) == [None]
        found = await conversations.get(conn, agent_id, organization_id=DEFAULT_ORGANIZATION)
        assert (found.from_position, found.end_position, found.summary_position) == (3, 5, 3)
        stored = await conn.fetchrow("select end_position from conversations where id = $1", agent_id)
        assert stored is not None
        assert stored["end_position"] == 5


@pytest.mark.parametrize("over", [False, True])
async def test_a_growing_window_needs_a_conversation_of_the_agent(pool: Pool, *, over: bool) -> None:
    """Whether its run goes on or was cancelled meanwhile."""
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        if over:
            await conn.execute(
                "update runs set status = 'cancelled', completed_at = now() where id = $1", command.run_id
            )
    grown = WindowUpdate(id=agent_id, from_position=1, end_position=3, only_grows=True)
    step = plain(agent_id, command, windows=(grown,))
    theirs = replace(
        step,
        messages=tuple(replace(m, conversation_id=other) for m in step.messages),
        windows=(replace(grown, id=other),),
    )
    assert checkpoints.is_plain(theirs)
    with pytest.raises(RefusedError):
        async with connection(pool) as conn:
            await checkpoints.commit(conn, [theirs])
    async with connection(pool) as conn:
        assert await checkpoints.commit(conn, [step]) == [None]
        stored = "select count(*) from messages where conversation_id = $1 and position > 0"
        assert [await conn.fetchval(stored, one) for one in (agent_id, other)] == [2, 0]


async def test_a_step_is_written_once_whatever_says_so(pool: Pool) -> None:
    """What the model said belongs to one step alone: a second row for it is refused, and all beside it."""
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        whole = plain(agent_id, await accepted(conn, agent_id))
        (step,), (asked, said) = whole.steps, whole.messages
        first = replace(whole, messages=(asked, replace(said, step_id=step.id)))
        assert await checkpoints.commit(conn, [first]) == [None]
        other = plain(agent_id, await accepted(conn, agent_id))
        again = replace(
            other,
            version=1,
            steps=(replace(other.steps[0], id=step.id),),
            messages=tuple(replace(m, position=m.position + 2, step_id=step.id) for m in other.messages),
        )
    with pytest.raises(ConflictError):
        async with connection(pool) as conn:
            await checkpoints.commit(conn, [again])
    async with connection(pool) as conn:
        assert await conn.fetchval("select version from agents where id = $1", agent_id) == 1


@pytest.mark.parametrize("common", [False, True])
async def test_a_stale_block_stops_its_whole_step_in_either_statement(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, common: bool
) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        step = await with_tools(conn, plain(agent_id, command))
        (edit,) = step.blocks
        untouched = await rows_of(conn, agent_id)
        if not common:
            monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
        (verdict,) = await checkpoints.commit(conn, [replace(step, blocks=(replace(edit, version=1),))])
        assert isinstance(verdict, StaleBlocksError)
        assert verdict.block_ids == (edit.id,)
        (verdict,) = await checkpoints.commit(conn, [replace(step, version=1)])
        assert isinstance(verdict, FencedError)
        assert await rows_of(conn, agent_id) == untouched
        assert await conn.fetchval("select value from blocks where id = $1", edit.id) == "old"
        assert await checkpoints.commit(conn, [step]) == [None]
        row = await conn.fetchrow("select value, version from blocks where id = $1", edit.id)
        assert row is not None
        assert tuple(row) == ("new", 1)


async def test_what_is_over_has_its_time_and_nothing_else_has_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connection(pool) as conn:
        for common in (True, False):
            if not common:
                monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
            for status, state in (("running", "applied"), ("completed", "done")):
                agent_id = await seeds.agent(conn)
                command = await accepted(conn, agent_id)
                at = datetime.now(UTC) if status == "running" else None
                run = RunUpdate(id=command.run_id, status=status, completed_at=at, stop_reason="end_turn")
                step = plain(
                    agent_id, command, runs=(run,), inbox=(InboxUpdate(seq=command.seq, state=state),)
                )
                assert await checkpoints.commit(conn, [step]) == [None]
                row = await conn.fetchrow(
                    "select r.completed_at, i.done_at from runs r join inbox i on i.run_id = r.id"
                    " where r.agent_id = $1",
                    agent_id,
                )
                assert row is not None
                assert [time is not None for time in row] == [status == "completed"] * 2


@pytest.mark.parametrize("ends", [(0, 1), (3, 2)])
def test_a_window_is_a_range(ends: tuple[int, int]) -> None:
    with pytest.raises(AssertionError, match="range of positions"):
        WindowUpdate(id="conv-1", from_position=ends[0], end_position=ends[1])


async def test_a_step_of_the_common_shape_is_fenced_like_any_other(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        untouched = await rows_of(conn, agent_id)
        for wrong in ({"fence": 1}, {"version": 1}):
            (outcome,) = await checkpoints.commit(conn, [plain(agent_id, command, **wrong)])
            assert isinstance(outcome, FencedError)
        assert await rows_of(conn, agent_id) == untouched
        assert await checkpoints.commit(conn, [plain(agent_id, command)]) == [None]
        (again,) = await checkpoints.commit(conn, [plain(agent_id, command, version=1)])
        assert isinstance(again, FencedError), "its command is over"


async def test_a_finished_run_is_not_changed_by_a_step_of_the_common_shape(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        command = await accepted(conn, agent_id)
        await conn.execute(
            "update runs set status = 'cancelled', completed_at = now() where id = $1", command.run_id
        )
        assert await checkpoints.commit(conn, [plain(agent_id, command)]) == [None]
        assert await conn.fetchval("select status from runs where id = $1", command.run_id) == "cancelled"


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("missing", ["conversation", "run"])
async def test_a_step_needs_its_conversation_and_its_run(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, missing: str, *, common: bool
) -> None:
    async with connection(pool) as conn:
        agent_id, other_id = await seeds.agent(conn), await seeds.agent(conn)
        command, others = await accepted(conn, agent_id), await accepted(conn, other_id)
    step = plain(agent_id, command)
    if missing == "conversation":  # another agent's is none
        said = tuple(replace(m, conversation_id=other_id) for m in step.messages)
        step = replace(step, messages=said, windows=(replace(step.windows[0], id=other_id),))
    else:
        said = tuple(replace(m, run_id=others.run_id) for m in step.messages)
        runs = (replace(step.runs[0], id=others.run_id),)
        model_calls = (replace(step.steps[0], run_id=others.run_id),)
        step = replace(step, messages=said, runs=runs, steps=model_calls)
    assert checkpoints.is_plain(step)
    if not common:
        monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
    with pytest.raises(RefusedError):
        async with connection(pool) as conn:
            await checkpoints.commit(conn, [step])
    async with connection(pool) as conn:
        assert await conn.fetchval("select count(*) from messages") == 2
        assert await conn.fetchval("select count(*) from steps") == 0
