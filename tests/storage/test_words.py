"""The words of messages: filled in after their commit, true whatever becomes of the messages."""

from collections.abc import Awaitable

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from actors import clock
from storage import agents, checkpoints, edits, forks, imports, recall, words
from storage import migrate as migrations
from storage.agents import NewAgent
from storage.checkpoints import Checkpoint, MessageRewrite, WindowUpdate
from storage.pool import Conn, OwnConn, Pool, connect, connection
from storage.records import DEFAULT_ORGANIZATION, Agent, Message, TextPart
from tests.storage import seeds
from tests.storage.test_checkpoints import accepted, plain
from tests.storage.test_forks import FORK, SECOND, fork, read
from tests.storage.test_recall import found, say, talk

STORED = """
select conversation_id, position from message_words where words @@ to_tsquery('english', $1)
 order by conversation_id, position
"""
WAITERS = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
SECONDS = 30.0


async def stored(conn: Conn, word: str) -> list[tuple[str, int]]:
    """Where messages with this word stand, by the table of words alone."""
    return [(row["conversation_id"], row["position"]) for row in await conn.fetch(STORED, word)]


async def all_behind(conn: Conn) -> list[str]:
    """What lacks words in the whole database."""
    lacking: list[str] = []
    after: str | None = ""
    while after is not None:
        some, after = await words.behind(conn, after)
        lacking += some
    return lacking


async def step_that_says(conn: Conn, agent_id: str) -> Checkpoint:
    """A step of two messages that mention the morning."""
    window = WindowUpdate(id=agent_id, from_position=1, end_position=3)
    step = plain(agent_id, await accepted(conn, agent_id), windows=(window,))
    said = (TextPart("a fine morning"),)
    return replace(step, messages=tuple(replace(m, content=said) for m in step.messages))


async def step_that_rewrites(conn: Conn, agent_id: str, *rewrites: MessageRewrite) -> Checkpoint:
    """The next step of the same agent, without messages of its own."""
    return plain(agent_id, await accepted(conn, agent_id), version=1, messages=(), rewrites=rewrites)


# --- filling in ---------------------------------------------------------------------------------------


async def test_a_step_writes_no_words_and_they_are_filled_in_afterwards(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        assert await checkpoints.commit(conn, [await step_that_says(conn, agent)]) == [None]
        assert await stored(conn, "morning") == []
        assert await all_behind(conn) == [agent]
        await words.fill(conn, [agent])
        assert await stored(conn, "morning") == [(agent, 1), (agent, 2)]
        assert await all_behind(conn) == []


async def test_many_messages_of_many_conversations_are_filled_in_by_parts(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "AT_ONCE", 4)
    monkeypatch.setattr(words, "CONVERSATIONS", 2)
    monkeypatch.setattr(words, "LOOKED_AT", 2)
    async with connection(pool) as conn:
        made = [await seeds.agent(conn) for _ in range(5)]
        for many, agent in zip((1, 2, 3, 7, 9), made, strict=True):
            await say(conn, agent, *(f"tea {n}" for n in range(many)))
        assert await all_behind(conn) == sorted(made)
        await words.fill(conn, made)
        assert len(await stored(conn, "tea")) == 1 + 2 + 3 + 7 + 9
        assert await all_behind(conn) == []


async def test_what_is_filled_in_is_not_filled_in_again_and_what_follows_is(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "tea one")
        await words.fill(conn, [agent])
        await conn.execute("delete from message_words")  # a second look at it would write it again
        await say(conn, agent, "tea two")
        await words.fill(conn, [agent, "conv-that-nobody-knows"])
        assert await stored(conn, "tea") == [(agent, 2)]


async def test_those_who_fill_in_at_once_take_turns(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = [await seeds.agent(conn) for _ in range(3)]
        for agent in made:
            await say(conn, agent, *(f"tea {n}" for n in range(20)))

    async def fill() -> None:
        async with connection(pool) as own:
            await words.fill(own, made)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(fill)
    async with connection(pool) as conn:
        assert len(await stored(conn, "tea")) == 60


async def test_a_search_finds_what_was_committed_before_it_and_nobody_filled_in(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        for _ in range(2):
            beside = await talk(conn, agent)
            await say(conn, agent, "tea at home")
            await say(conn, agent, "tea at work", conversation_id=beside)
            assert len(await found(conn, agent, "tea", limit=9)) == len(await stored(conn, "tea")) > 0
        assert len(await stored(conn, "tea")) == 4


async def rewritten(conn: Conn, agent_id: str, rewrite: MessageRewrite, *, filled: bool) -> None:
    """Say something, rewrite it, and fill words in; in between as well where it says `filled`."""
    step = await step_that_says(conn, agent_id)
    assert await checkpoints.commit(conn, [step]) == [None]
    if filled:
        await words.fill(conn, [agent_id])
    changed = await step_that_rewrites(conn, agent_id, replace(rewrite, id=step.messages[0].id))
    assert await checkpoints.commit(conn, [changed]) == [None]
    await words.fill(conn, [agent_id])


# --- what becomes of messages ---------------------------------------------------------------------------


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("filled", [False, True])
async def test_a_message_that_is_excluded_has_no_words(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, filled: bool, common: bool
) -> None:
    if not common:
        monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await rewritten(conn, agent, MessageRewrite(id="", excluded=True), filled=filled)
        assert await stored(conn, "morning") == [(agent, 2)]


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("filled", [False, True])
async def test_a_message_that_says_something_else_is_found_by_that(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, filled: bool, common: bool
) -> None:
    if not common:
        monkeypatch.setattr(checkpoints, "is_plain", lambda _: False)
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        other = MessageRewrite(id="", content=(TextPart("good evening"),))
        await rewritten(conn, agent, other, filled=filled)
        assert await stored(conn, "morning") == [(agent, 2)]
        assert await stored(conn, "evening") == [(agent, 1)]


async def waiting(pool: Pool, what: Awaitable[object], then: OwnConn) -> None:
    """Begin `what`, which is to wait for who fills in words; let that one, `then`, end when it does."""

    async def begin() -> None:
        await what

    async with connection(pool) as watcher:
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(begin)
                while not await watcher.fetchval(WAITERS):
                    await anyio.sleep(0.01)
                await then.execute("commit")


async def test_a_rewrite_beside_a_filling_in_waits_and_has_the_last_word(pool: Pool, dsn: str) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        step = await step_that_says(conn, agent)
        assert await checkpoints.commit(conn, [step]) == [None]
        filler = await connect(dsn)
        await filler.execute("begin")
        await words.fill_some(filler, [agent])
        gone = MessageRewrite(id=step.messages[0].id, excluded=True)
        rewrite = await step_that_rewrites(conn, agent, gone)
        await waiting(pool, checkpoints.commit(conn, [rewrite]), filler)
        await filler.close()
        assert await stored(conn, "morning") == [(agent, 2)]


async def test_a_step_and_a_rebuilt_prompt_wait_for_nobody_who_fills_in(pool: Pool, dsn: str) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        assert await checkpoints.commit(conn, [await step_that_says(conn, agent)]) == [None]
        filler = await connect(dsn)
        await filler.execute("begin")
        await words.fill_some(filler, [agent])
        system = await conn.fetchval("select id from messages where position = 0")
        prompt = MessageRewrite(id=system, content=(TextPart("rebuilt"),))
        with anyio.fail_after(SECONDS):
            assert await checkpoints.commit(conn, [await step_that_rewrites(conn, agent, prompt)]) == [None]
        await filler.close()


async def test_a_deleted_agent_leaves_no_words_even_beside_a_filling_in(pool: Pool, dsn: str) -> None:
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        await say(conn, agent, "tea")
        await say(conn, agent, "tea", conversation_id=await talk(conn, agent))
        await say(conn, other, "tea")
        filler = await connect(dsn)
        await filler.execute("begin")
        await words.fill_some(filler, await all_behind(conn))

        async def delete() -> None:
            async with conn.transaction():
                await edits.delete_agent(conn, agent)

        await waiting(pool, delete(), filler)
        await filler.close()
        assert await stored(conn, "tea") == [(other, 1)]
        assert await conn.fetchval("select array_agg(conversation_id) from worded_conversations") == [other]


async def test_a_fork_and_its_copies_are_found_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "tea one", "tea two")
        await say(conn, agent, "so far: tea", role="summary")
        await conn.execute("update conversations set summary_position = 3")
        parent = await read(conn, agent)
        second = await conn.fetchval("select id from messages where position = 2")
        made = await fork(conn, agent, FORK, second)
        assert (made.parent_position, made.end_position) == (2, 4), "with a copy of the summary"
        await say(conn, agent, "tea of the fork", conversation_id=FORK)
        await fork(conn, FORK, SECOND)
        await forks.part(conn, parent.id, 1)
        await forks.part(conn, FORK, 1)
        await say(conn, agent, "tea of the second", conversation_id=SECOND)
        await words.fill(conn, await all_behind(conn))
        assert await stored(conn, "tea") == [(agent, 1), (agent, 2), (agent, 3), (FORK, 4), (SECOND, 5)]
        assert len(await found(conn, agent, "tea", limit=9)) == 5


async def test_an_imported_history_has_its_words_from_the_start(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = clock.new_id("agent")
        agent = Agent(
            id=agent_id,
            organization_id=DEFAULT_ORGANIZATION,
            name="brought along",
            settings=seeds.SETTINGS,
            created_at=clock.now(),
            updated_at=clock.now(),
        )

        def message(position: int, text: str, role: str = "user", **changes: object) -> Message:
            return replace(seeds.message(agent_id, position, text, role=role), **changes)

        history = (
            message(1, "tea first"),
            message(2, "tea of a tool", "tool"),
            message(3, "so far: tea", "summary"),
            message(4, "tea last", "assistant"),
        )
        new = NewAgent(agent=agent, system=message(0, "Tea is served.", "system"), history=history)
        async with conn.transaction():
            await agents.create(conn, new)
            await imports.put_in_force(conn, agent_id, 3)
        assert await all_behind(conn) == []
        assert await stored(conn, "tea") == [(agent_id, 1), (agent_id, 3), (agent_id, 4)]
        await say(conn, agent_id, "tea later")
        assert len(await found(conn, agent_id, "tea", limit=9)) == 4


async def test_an_agent_without_a_history_lacks_no_words(pool: Pool) -> None:
    async with connection(pool) as conn:
        await seeds.agent(conn)
        assert await all_behind(conn) == []


async def test_after_a_reset_what_the_conversation_begins_with_is_found(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "tea before")
        await words.fill(conn, [agent])
        begun = seeds.message(agent, 2, "tea to begin with", role="assistant")
        await edits.reset_messages(conn, agent, agent, [begun])
        assert set(await found(conn, agent, "tea")) == {"tea before", "tea to begin with"}
        await edits.reset_messages(conn, agent, agent, [])
        await say(conn, agent, "tea after")
        assert len(await found(conn, agent, "tea")) == 3


# --- the migration --------------------------------------------------------------------------------------


OLD = """
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, step_id,
                      excluded, search)
select 'message-' || n, $1, n, $1, $2, role, content, step_id, excluded,
       case when n <> 3 then words_of(role, content, $1) end
  from (values (1, 'user', 'tea one', null, false), (2, 'assistant', 'tea two', 'step-1', false),
               (3, 'user', 'a copy of tea', null, false), (4, 'tool', 'tea of a tool', 'step-1', false),
               (5, 'user', 'heartbeat of tea', 'step-2', false), (6, 'user', 'refused tea', null, true))
         as old (n, role, said, step_id, excluded),
       lateral (select jsonb_build_array(jsonb_build_object('type', 'text', 'text', said)) as content) c
"""


async def test_the_migration_moves_the_words_that_there_are(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = migrations.load
    monkeypatch.setattr(migrations, "load", lambda: load()[:4])
    await migrations.migrate(empty_dsn)
    conn = await connect(empty_dsn)
    agent, fresh = await seeds.agent(conn), await seeds.agent(conn)
    await conn.execute(OLD, agent, DEFAULT_ORGANIZATION)
    await conn.execute("update conversations set end_position = 7 where id = $1", agent)
    monkeypatch.undo()
    await migrations.migrate(empty_dsn)
    await conn.close()
    conn = await connect(empty_dsn)
    try:
        assert await all_behind(conn) == []
        assert await stored(conn, "tea") == [(agent, 1), (agent, 2)]
        assert await found(conn, agent, "two") == ["tea two"]
        for agent_id in (agent, fresh):
            await say(conn, agent_id, "tea now")
        assert set(await all_behind(conn)) == {agent, fresh}
        hits = await recall.search(conn, agent_id=agent, query="tea", limit=9)
        assert {msgspec.json.encode(hit.content) for hit in hits} >= {b'[{"type":"text","text":"tea now"}]'}
    finally:
        await conn.close()
