from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from actors import clock, edit_writes, edits
from actors.commands import (
    AttachArchive,
    AttachBlock,
    AttachTool,
    CreateConversation,
    DeleteAgent,
    DeleteConversation,
    DeletePassage,
    DetachArchive,
    DetachBlock,
    DetachTool,
    InsertPassages,
    UpdateAgent,
    UpdateBlock,
    UpdateConversation,
)
from actors.errors import InvalidEditError
from actors.events import BlockChanged, Retracted, RunFinished, RunStarted, TextDelta
from bench.provider import Provider
from storage import activation, archives, blocks, checkpoints, conversations
from storage import edits as rows
from storage.archive_records import Passage
from storage.errors import ConflictError, NotFoundError, UnavailableError
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, AgentChanges, BlockChanges, ConversationChanges
from tests.actors.worlds import World, finish, new_block, world
from tests.laws.watching import everything_said


async def system_text(pool: Pool, conversation_id: str) -> str:
    async with connection(pool) as conn:
        return str(
            await conn.fetchval(
                "select content::text from messages where conversation_id = $1 and position = 0",
                conversation_id,
            )
        )


async def hot_equals_stored(w: World, agent_id: str) -> None:
    actor = await w.host._population.wake(agent_id)
    async with connection(w.pool) as conn:
        fresh = await activation.activate(conn, agent_id, fence=actor.agent.fence)
    assert {x: (b.value, b.version) for x, b in actor.blocks.items()} == {
        b.label: (b.value, b.version) for b in fresh.blocks
    }
    assert set(actor.toolbox.tools) == {t.name for t in fresh.tools}
    assert set(actor.threads) == {c.id for c in fresh.conversations}
    assert actor.version == fresh.agent.version
    assert actor.holdings == fresh.holdings
    assert actor.agent.settings == fresh.agent.settings
    assert (actor.agent.name, actor.agent.tags) == (fresh.agent.name, fresh.agent.tags)


async def test_settings_are_merged_and_the_stored_prompt_follows(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)
        await ref.edit(UpdateAgent(changes=AgentChanges(name="Ann", settings={"description": "d"})))
        await ref.edit(UpdateAgent(changes=AgentChanges(tags=("a",), settings={"system": "Be brief."})))
        actor = await w.host._population.wake(agent_id)
        assert actor.agent.settings.description == "d"
        assert (actor.agent.name, actor.agent.tags) == ("Ann", ("a",))
        assert "Be brief." in await system_text(pool, agent_id)
        await hot_equals_stored(w, agent_id)


async def test_settings_that_make_no_sense_change_nothing(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        before = await w.host._population.wake(agent_id)
        version = before.version
        changes = AgentChanges(settings={"context_window_tokens": "many"})
        with pytest.raises(InvalidEditError) as caught:
            await w.host.ref(agent_id).edit(UpdateAgent(changes=changes))
        assert caught.value.field == "settings"
        assert before.version == version
        await hot_equals_stored(w, agent_id)


async def test_blocks_are_attached_once_and_detached_for_good(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        async with connection(pool) as conn:
            more = await blocks.create(conn, new_block("more", "extra words"))
            clash = await blocks.create(conn, new_block("human"))
        ref = w.host.ref(agent_id)
        await ref.edit(AttachBlock(more.id))
        await ref.edit(AttachBlock(more.id))
        assert "extra words" in await system_text(pool, agent_id)
        with pytest.raises(ConflictError):
            await ref.edit(AttachBlock(clash.id))
        with pytest.raises(NotFoundError):
            await ref.edit(AttachBlock("block-none"))
        await hot_equals_stored(w, agent_id)
        await ref.edit(DetachBlock(more.id))
        await ref.edit(DetachBlock(more.id))
        assert "extra words" not in await system_text(pool, agent_id)
        await hot_equals_stored(w, agent_id)


async def test_a_write_under_an_old_version_is_a_conflict(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)
        await ref.edit(UpdateBlock(label="human", changes=BlockChanges(value="one"), if_version=0))
        with pytest.raises(InvalidEditError) as caught:
            await ref.edit(UpdateBlock(label="human", changes=BlockChanges(value="two"), if_version=0))
        assert caught.value.conflict
        with pytest.raises(NotFoundError):
            await ref.edit(UpdateBlock(label="none", changes=BlockChanges(value="x")))
        assert await w.value(agent_id) == "one"
        await hot_equals_stored(w, agent_id)


async def test_a_write_that_loses_its_race_is_repeated_and_contention_is_said(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, lost = rows.update_block, 3

    async def racing(*args: Any, **kwargs: Any) -> bool:
        nonlocal lost
        lost -= 1
        return False if lost >= 0 else await update(*args, **kwargs)

    monkeypatch.setattr(rows, "update_block", racing)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)
        await ref.edit(UpdateBlock(label="human", changes=BlockChanges(value="won")))
        assert await w.value(agent_id) == "won"
        lost = edit_writes.BLOCK_RETRIES
        with pytest.raises(InvalidEditError):
            await ref.edit(UpdateBlock(label="human", changes=BlockChanges(value="never")))
        await hot_equals_stored(w, agent_id)


async def test_a_running_turn_is_told_of_an_edit(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "gate": "go", "gate_after": 0}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id)
        await provider.log(requests=1)
        await w.host.ref(agent_id).edit(UpdateBlock(label="human", changes=BlockChanges(value="new")))
        await provider.open("go")
        assert finish(await w.events(receipt, agent_id)).status == "completed"
        said = everything_said(w, agent_id)
        assert [(e.run_id, e.label, e.value) for e in said if isinstance(e, BlockChanged)] == [
            (None, "human", "new")
        ]


async def test_tools_are_shown_to_the_next_call(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        actor = await w.host._population.wake(agent_id)
        tool = actor.toolbox.tools["memory_insert"]
        await w.host.ref(agent_id).edit(DetachTool(tool.id))
        await hot_equals_stored(w, agent_id)
        await w.ask(agent_id)
        (record,) = await provider.log()
        assert "memory_insert" not in {t["function"]["name"] for t in record.body["tools"]}
        await w.host.ref(agent_id).edit(AttachTool(tool.id))
        await hot_equals_stored(w, agent_id)
        with pytest.raises(NotFoundError):
            await w.host.ref(agent_id).edit(AttachTool("tool-none"))


async def test_a_conversation_is_opened_answers_and_is_closed(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        conversation_id = clock.new_id("conv")
        ref = w.host.ref(agent_id)
        await ref.edit(CreateConversation(conversation_id=conversation_id, summary="talk"))
        await hot_equals_stored(w, agent_id)
        receipt = await w.tell(agent_id, "hi", conversation_id=conversation_id)
        assert finish(await w.events(receipt, agent_id)).status == "completed"
        assert await w.history(agent_id) == []
        await ref.edit(DeleteConversation(conversation_id))
        with pytest.raises(NotFoundError):
            await w.tell(agent_id, "hi", conversation_id=conversation_id)
        with pytest.raises(ConflictError):
            await ref.edit(DeleteConversation(agent_id))
        await hot_equals_stored(w, agent_id)


async def test_a_changed_conversation_is_the_same_in_memory_and_at_rest(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        conversation_id = clock.new_id("conv")
        ref = w.host.ref(agent_id)
        await ref.edit(CreateConversation(conversation_id=conversation_id, summary="talk", description="d"))
        changes = ConversationChanges(summary=None, model="openai/other", model_settings={"strict": True})
        await ref.edit(UpdateConversation(conversation_id, changes))
        actor = await w.host._population.wake(agent_id)
        hot = actor.threads[conversation_id].conversation
        async with connection(pool) as conn:
            stored = await conversations.get(conn, conversation_id, organization_id=hot.organization_id)
        assert (stored.summary, stored.description, stored.model) == (None, "d", "openai/other")
        assert hot == replace(stored, created_at=hot.created_at, updated_at=hot.updated_at)
        with pytest.raises(NotFoundError):
            await ref.edit(UpdateConversation("conv-none", ConversationChanges(summary="x")))
        await ref.edit(DeleteConversation(conversation_id))
        with pytest.raises(NotFoundError):
            await ref.edit(UpdateConversation(conversation_id, ConversationChanges(summary="x")))
        await hot_equals_stored(w, agent_id)


async def test_an_edit_whose_answer_was_lost_is_looked_up(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, landed = edit_writes.write, checkpoints.landed
    looked = 0

    async def looking(*args: Any) -> list[bool]:
        nonlocal looked
        looked += 1
        return await landed(*args)

    monkeypatch.setattr(checkpoints, "landed", looking)
    monkeypatch.setattr(edits, "RETRY_DELAYS", (0.001,))
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)

        async def cut(*args: Any) -> None:
            await write(*args)
            raise UnavailableError("cut before the commit")

        with monkeypatch.context() as patch:
            patch.setattr(edit_writes, "write", cut)
            with pytest.raises(UnavailableError):
                await ref.edit(UpdateBlock(label="human", changes=BlockChanges(value="lost")))
        assert looked == 0  # nothing can have landed
        assert await w.value(agent_id) == ""
        with monkeypatch.context() as patch:
            patch.setattr(rows, "commit", _committed_but_cut(rows.commit))
            await ref.edit(UpdateBlock(label="human", changes=BlockChanges(value="landed")))
        assert looked == 1
        assert await w.value(agent_id) == "landed"
        await hot_equals_stored(w, agent_id)


async def test_an_agent_whose_last_edit_stays_unknown_reads_the_truth_and_goes_on(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await _edit_that_stays_unknown(w, agent_id, monkeypatch)
        assert finish(await w.ask(agent_id)).status == "completed"
        await hot_equals_stored(w, agent_id)


async def test_a_turn_beside_an_edit_that_stays_unknown_is_taken_back_before_it_is_begun_anew(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"text": "one two three", "gate": "g", "gate_after": 1}, {"text": "again"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id)
        await provider.log(requests=1, keep=True)
        await _edit_that_stays_unknown(w, agent_id, monkeypatch)
        await provider.log(requests=2, keep=True)
        await provider.open("g")
        finish(await w.events(receipt, agent_id))
        said = [event for _, event in w.host.logs.channel(agent_id, agent_id).since(0) or ()]
        kinds = [type(e) for e in said if isinstance(e, RunStarted | Retracted | RunFinished)]
        assert kinds == [RunStarted, Retracted, RunStarted, RunFinished]
        assert "".join(e.text for e in said if isinstance(e, TextDelta)) == "one again"
        assert (await w.history(agent_id))[-1] == ("assistant", "again")


async def _edit_that_stays_unknown(w: World, agent_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit an edit of which nobody learns that it landed."""

    async def away(*_: Any) -> list[bool]:
        raise UnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(edits, "RETRY_DELAYS", (0.001,))
        patch.setattr(edits, "OUTAGE_DEADLINE", 0)
        patch.setattr(checkpoints, "landed", away)
        patch.setattr(rows, "commit", _committed_but_cut(rows.commit))
        with pytest.raises(UnavailableError):
            await w.host.ref(agent_id).edit(
                UpdateBlock(label="human", changes=BlockChanges(value="who knows"))
            )


def _committed_but_cut(commit: Any) -> Any:
    @asynccontextmanager
    async def cut(conn: Any, **kwargs: Any) -> Any:
        async with commit(conn, **kwargs) as tx:
            yield tx
        raise UnavailableError("the answer was lost")

    return cut


def memory(text: str) -> Passage:
    now = clock.now()
    return Passage(
        id=clock.new_id("passage"),
        organization_id=DEFAULT_ORGANIZATION,
        archive_id="",
        text=text,
        created_at=now,
        updated_at=now,
    )


async def test_memories_written_over_rest_are_counted_in_the_stored_prompt(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)
        one, two = memory("one"), memory("two")
        await ref.edit(InsertPassages((one, two)))
        assert "- 2 total memories are in archival memory" in await system_text(pool, agent_id)
        await ref.edit(DeletePassage(one.id))
        assert "- 1 total memories" in await system_text(pool, agent_id)
        with pytest.raises(NotFoundError):
            await ref.edit(DeletePassage(one.id))
        await ref.edit(DeletePassage(two.id))
        assert "total memories" not in await system_text(pool, agent_id)
        await hot_equals_stored(w, agent_id)


async def test_every_conversation_says_how_many_memories_there_are_from_its_next_turn(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id, other = await w.agent(), clock.new_id("conv")
        ref = w.host.ref(agent_id)
        await ref.edit(CreateConversation(conversation_id=other))
        await w.ask(agent_id, conversation_id=other)
        await ref.edit(InsertPassages((memory("one"),)))
        assert "total memories" not in await system_text(pool, other)
        await w.ask(agent_id, conversation_id=other)
        assert "- 1 total memories" in await system_text(pool, other)
        await w.ask(agent_id)
        assert "- 1 total memories" in await system_text(pool, agent_id)


async def test_agents_that_share_an_archive_learn_what_others_wrote(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        one, other = await w.agent(), await w.agent()
        await w.host.ref(one).edit(InsertPassages((memory("one"),)))
        async with connection(pool) as conn:
            (shared,) = await archives.of_agent(conn, one)
        await w.host.ref(other).edit(AttachArchive(shared.id))
        assert "- 1 total memories" in await system_text(pool, other)
        await w.host.ref(one).edit(InsertPassages((memory("two"),)))
        await w.host.passages_written([other, "agent-nobody"])
        await w.ask(other)
        assert "- 2 total memories" in await system_text(pool, other)
        await w.host.ref(other).edit(DetachArchive(shared.id))
        assert "total memories" not in await system_text(pool, other)
        with pytest.raises(NotFoundError):
            await w.host.ref(other).edit(AttachArchive("archive-nowhere"))


async def test_a_deleted_agent_takes_its_own_archive_along(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.host.ref(agent_id).edit(InsertPassages((memory("one"),)))
        await w.host.ref(agent_id).edit(DeleteAgent())
        async with connection(pool) as conn:
            assert await conn.fetchval("select count(*) from archives") == 0
            assert await conn.fetchval("select count(*) from passages") == 0
