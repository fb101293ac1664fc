"""Memory tools in the hands of whole agents: what is committed, told, shown next, and what clashes."""

import json
from typing import Any

import anyio
import pytest

from actors.clock import new_id
from actors.commands import CreateConversation
from actors.events import BlockChanged, BlockCreated, BlockDetached, Event
from actors.host import HostSettings
from bench.provider import Provider
from storage import blocks as rows
from storage.pool import Pool, connection, transaction
from storage.records import DEFAULT_ORGANIZATION, Block, BlockChanges, ToolReturnPart
from tests.actors.worlds import World, finish, new_block, world

ALL = (
    "memory",
    "memory_apply_patch",
    "memory_rethink",
    "memory_finish_edits",
    "core_memory_append",
    "core_memory_replace",
    "archival_memory_insert",
    "archival_memory_search",
    "send_message",
)


def call(name: str, **arguments: object) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def calls(*asked: dict[str, Any], **reply: Any) -> dict[str, Any]:
    return {"tool_calls": list(asked), **reply}


async def asked(w: World, provider: Provider, agent_id: str, *wanted: dict[str, Any]) -> list[ToolReturnPart]:
    """Let the model ask for calls in one step; return their results."""
    await provider.script([calls(*wanted), {"text": "done"}])
    assert finish(await w.ask(agent_id)).stop_reason == "end_turn"
    return await results(w, agent_id)


async def results(w: World, conversation_id: str) -> list[ToolReturnPart]:
    """Return the results of the last step with calls."""
    row = [m for m in await w.messages(conversation_id) if m.role == "tool"][-1]
    return [part for part in row.content if isinstance(part, ToolReturnPart)]


async def held(w: World, agent_id: str) -> dict[str, tuple[str, str | None, int]]:
    """Return (value, description, version) by label as committed, in the order of the prompt."""
    async with connection(w.pool) as conn:
        found = await conn.fetch(
            "select ab.label, b.label as own, b.value, b.description, b.version"
            "  from agents_blocks ab join blocks b on b.id = ab.block_id"
            " where ab.agent_id = $1 order by ab.ordinal, ab.label",
            agent_id,
        )
    assert all(row["label"] == row["own"] for row in found)
    return {row["label"]: (row["value"], row["description"], row["version"]) for row in found}


async def hot(w: World, agent_id: str) -> dict[str, tuple[str, str | None, int]]:
    """Return the same as the actor has it."""
    actor = await w.host._population.wake(agent_id)
    assert all(label == block.label for label, block in actor.blocks.items())
    return {b.label: (b.value, b.description, b.version) for b in actor.block_list()}


async def prompt_of_next_turn(w: World, provider: Provider, agent_id: str) -> str:
    """Ask something, and return the system prompt that the model was sent."""
    await provider.log()
    await w.ask(agent_id, "and now?")
    (record,) = await provider.log()
    return record.body["messages"][0]["content"]


async def test_an_agent_creates_renames_describes_and_deletes_blocks(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        old = new_block("old", "gone")
        agent_id = await w.agent(blocks=(new_block("human", "Sam"), old), more_tools=ALL)
        await provider.script(
            [
                calls(
                    call(
                        "memory",
                        command="create",
                        path="/memories/projects/alpha",
                        description="Alpha.",
                        file_text="starts in May",
                    ),
                    call("memory", command="rename", old_path="/memories/human", new_path="/memories/person"),
                    call("memory", command="rename", path="/memories/person", description="Who it is."),
                    call("memory", command="delete", path="/memories/old"),
                ),
                {"text": "done"},
            ]
        )
        events = await w.ask(agent_id)
        expected = {
            "person": ("Sam", "Who it is.", 1),
            "projects_alpha": ("starts in May", "Alpha.", 0),
        }
        assert await held(w, agent_id) == await hot(w, agent_id) == expected
        assert [told(e) for e in events if told(e)] == [
            ("detached", "old"),
            ("changed", "person", "Sam", 1),
            ("created", "projects_alpha", "starts in May"),
        ]
        async with connection(pool) as conn:
            survivor = await rows.get(conn, old.id, organization_id=DEFAULT_ORGANIZATION)
        assert survivor.value == "gone"
        prompt = await prompt_of_next_turn(w, provider, agent_id)
        assert "<projects_alpha>" in prompt
        assert "Who it is." in prompt
        assert "<old>" not in prompt
        assert "<human>" not in prompt


def told(event: Event) -> tuple[object, ...]:
    match event:
        case BlockCreated():
            return "created", event.label, event.value
        case BlockChanged():
            return "changed", event.label, event.value, event.version
        case BlockDetached():
            return "detached", event.label
        case _:
            return ()


async def test_every_tool_of_one_step_builds_on_the_ones_before(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=ALL)
        said = await asked(
            w,
            provider,
            agent_id,
            call("core_memory_append", label="human", content="tea, tea"),
            call("core_memory_replace", label="human", old_content="tea", new_content="milk"),
            call("memory_rethink", label="notes", new_memory="first"),
            call("memory_apply_patch", label="notes", patch="@@\n-first\n+one\n+two"),
            call("memory", command="insert", path="/memories/notes", insert_text="three"),
            call("memory", command="str_replace", path="/memories/notes", old_string="two", new_string="2"),
            call("memory_finish_edits"),
            call("send_message", message="Hello"),
        )
        assert [(r.status, r.text) for r in said] == [
            ("success", "tea, tea"),
            ("success", "milk, milk"),
            ("success", "first"),
            ("success", "one\ntwo"),
            ("success", "one\ntwo\nthree"),
            ("success", "one\n2\nthree"),
            ("success", "None"),
            ("success", "Sent message successfully."),
        ]
        assert await held(w, agent_id) == {
            "human": ("milk, milk", None, 1),
            "notes": ("one\n2\nthree", None, 0),
        }


async def test_a_patch_may_swap_labels_and_replace_a_block_of_the_same_name(
    pool: Pool, provider: Provider
) -> None:
    patch = (
        "*** Update Block: a\n*** Move to: c\n"
        "*** Update Block: b\n*** Move to: a\n"
        "*** Update Block: c\n*** Move to: b\n"
        "*** Delete Block: d\n*** Add Block: d\n+new"
    )
    async with world(pool, provider) as w:
        shared = [new_block("a", "was a"), new_block("b", "was b"), new_block("d", "was d")]
        agent_id = await w.agent(blocks=tuple(shared), more_tools=ALL)
        other = await beside(w, *shared[:2])
        await w.ask(other, "wake up")
        (result,) = await asked(w, provider, agent_id, call("memory_apply_patch", label="a", patch=patch))
        assert result.status == "success", result.text
        assert await held(w, agent_id) == {
            "b": ("was a", None, 1),
            "a": ("was b", None, 1),
            "d": ("new", None, 0),
        }
        assert await hot(w, agent_id) == await held(w, agent_id)
        assert await hot(w, other) == await held(w, other)
        assert (await held(w, other))["b"][0] == "was a"


async def beside(w: World, *shared: Block) -> str:
    """Create another agent that holds these stored blocks and an empty `human`; return its id."""
    agent_id = await w.agent()
    async with connection(w.pool) as conn:
        for place, block in enumerate(shared, start=1):
            await conn.execute(
                "insert into agents_blocks (agent_id, block_id, label, ordinal) values ($1, $2, $3, $4)",
                agent_id,
                block.id,
                block.label,
                place,
            )
    return agent_id


# --- clashes ------------------------------------------------------------------------------------


async def relabelled_elsewhere(pool: Pool, block: Block, label: str) -> None:
    """Write a block as another process would: no actor of this one hears of it."""
    async with connection(pool) as conn, transaction(conn):
        await rows.update(conn, block.id, BlockChanges(label=label), organization_id=DEFAULT_ORGANIZATION)


async def test_a_label_that_was_taken_meanwhile_is_refused_with_what_is_there_now(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        block = new_block("human", "Sam")
        agent_id = await w.agent(blocks=(block,), more_tools=ALL)
        await w.ask(agent_id, "wake up")
        await relabelled_elsewhere(pool, block, "notes")
        created, inserted = await asked(
            w,
            provider,
            agent_id,
            call("memory", command="create", path="/memories/notes", description="d"),
            call("memory_insert", label="notes", new_string="plays chess"),
        )
        assert created.status == "error"
        assert "`notes` exists already" in created.text
        assert inserted.text == "Sam\nplays chess"
        assert await hot(w, agent_id) == await held(w, agent_id) == {"notes": ("Sam\nplays chess", None, 2)}


async def test_a_label_that_another_holder_of_the_block_has_is_refused(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        team = new_block("team", "us")
        agent_id = await w.agent(blocks=(team,), more_tools=ALL)
        await beside(w, team)  # holds `human` as well
        renamed, created = await asked(
            w,
            provider,
            agent_id,
            call("memory", command="rename", old_path="/memories/team", new_path="/memories/human"),
            call("memory", command="create", path="/memories/notes", description="d", file_text="x"),
        )
        assert renamed.status == "error"
        assert "an agent that shares this block" in renamed.text
        assert created.status == "success"
        assert await hot(w, agent_id) == await held(w, agent_id)
        assert list(await held(w, agent_id)) == ["team", "notes"]


async def test_a_renamed_block_is_renamed_for_every_holder(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        team = new_block("team", "us")
        agent_id = await w.agent(blocks=(team,), more_tools=ALL)
        other = await beside(w, team)
        await w.ask(other, "wake up")
        await asked(
            w,
            provider,
            agent_id,
            call("memory", command="rename", old_path="/memories/team", new_path="/memories/crew"),
            call("memory_insert", label="crew", new_string="and them"),
        )
        assert await hot(w, other) == await held(w, other)
        assert (await hot(w, other))["crew"] == ("us\nand them", None, 1)
        assert "<crew>" in await prompt_of_next_turn(w, provider, other)


async def test_what_was_changed_and_then_detached_is_changed_for_the_others(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        team = new_block("team", "us")
        agent_id = await w.agent(blocks=(new_block("human"), team), more_tools=ALL)
        other = await beside(w, team)
        await w.ask(other, "wake up")
        await asked(
            w,
            provider,
            agent_id,
            call("memory_insert", label="team", new_string="and them"),
            call("memory", command="delete", path="/memories/team"),
        )
        assert list(await hot(w, agent_id)) == ["human"]
        assert (await hot(w, other))["team"] == (await held(w, other))["team"] == ("us\nand them", None, 1)


async def test_of_two_conversations_that_create_one_label_the_second_is_told(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=ALL)
        second = new_id("conv")
        await w.host.ref(agent_id).edit(CreateConversation(conversation_id=second))
        for words in ("one", "two"):
            await provider.script(
                [
                    calls(
                        call(
                            "memory",
                            command="create",
                            path="/memories/notes",
                            description="d",
                            file_text=words,
                        ),
                        match=f"I am {words}",
                        gate="both",
                        gate_after=0,
                    )
                ]
            )
        receipts = [
            await w.tell(agent_id, "I am one"),
            await w.tell(agent_id, "I am two", conversation_id=second),
        ]
        await provider.log(requests=2, keep=True)
        await provider.open("both")
        for receipt in receipts:
            finish(await w.events(receipt, agent_id))
        said = [(await results(w, conversation))[0] for conversation in (agent_id, second)]
        assert sorted(r.status for r in said) == ["error", "success"]
        (winner,) = [words for words, r in zip(("one", "two"), said, strict=True) if r.status == "success"]
        assert await hot(w, agent_id) == await held(w, agent_id)
        assert (await held(w, agent_id))["notes"] == (winner, "d", 0)


async def test_a_second_conversation_hears_of_blocks_that_come_and_go(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(blocks=(new_block("human"), new_block("old")), more_tools=ALL)
        second = new_id("conv")
        await w.host.ref(agent_id).edit(CreateConversation(conversation_id=second))
        await provider.script([{"text": "at last", "match": "I wait", "gate": "late", "gate_after": 0}])
        waiting = await w.tell(agent_id, "I wait", conversation_id=second)
        await provider.log(requests=1, keep=True)
        await asked(
            w,
            provider,
            agent_id,
            call("memory", command="create", path="/memories/notes", description="d"),
            call("memory", command="delete", path="/memories/old"),
        )
        await provider.open("late")
        finish(await w.events(waiting, agent_id))
        said = [
            e
            for segment in w.host.logs.channel(second, agent_id).segments
            for e in segment.read(segment.start)
        ]
        heard = [told(e) for e in said if told(e)]
        assert heard == [("detached", "old"), ("created", "notes", "")]


# --- archival memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", ["openai/embed", None])
async def test_what_was_archived_is_found_again(
    pool: Pool, provider: Provider, embedding: str | None
) -> None:
    settings = HostSettings(drain_seconds=2, embedding=None if embedding else "off")
    async with world(pool, provider, settings=settings) as w:
        agent_id = await w.agent(more_tools=ALL, embedding=embedding, timezone="America/New_York")
        stored, other = await asked(
            w,
            provider,
            agent_id,
            call("archival_memory_insert", content="The blue boiler was repaired", tags=["house", "house"]),
            call("archival_memory_insert", content="Sam prefers window seats", tags=["travel"]),
        )
        assert stored.text.startswith("passage-")
        assert stored.text != other.text
        (found,) = await asked(
            w, provider, agent_id, call("archival_memory_search", query="boiler repaired", top_k=1)
        )
        (hit,) = json.loads(found.text)
        assert (hit["id"], hit["content"], hit["tags"]) == (
            stored.text,
            "The blue boiler was repaired",
            ["house"],
        )
        assert hit["timestamp"].endswith(("-05:00", "-04:00"))
        assert hit["relevance"]["search_mode"] == ("hybrid" if embedding else "fts")
        async with connection(pool) as conn:
            models = await conn.fetch("select distinct embedding_model from passages")
        assert [row["embedding_model"] for row in models] == [embedding]


async def test_the_prompt_says_how_much_is_archived(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=ALL, embedding="openai/embed")
        assert "archival memory" not in await prompt_of_next_turn(w, provider, agent_id)
        for count in (1, 2):
            await asked(w, provider, agent_id, call("archival_memory_insert", content=f"fact {count}"))
            prompt = await prompt_of_next_turn(w, provider, agent_id)
            assert f"{count} total memories are in archival memory" in prompt
    async with world(pool, provider) as w:
        await asked(w, provider, agent_id, call("archival_memory_insert", content="fact 3"))
        prompt = await prompt_of_next_turn(w, provider, agent_id)
        assert "3 total memories are in archival memory" in prompt


async def test_the_stored_prompt_shows_memory_as_soon_as_the_run_is_over(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=ALL)
        await asked(w, provider, agent_id, call("memory_insert", label="human", new_string="Likes tea"))
        system = (await w.messages(agent_id))[0]
        stored = "".join(part.text for part in system.content)  # type: ignore[union-attr]
        assert "Likes tea" in stored
        assert await prompt_of_next_turn(w, provider, agent_id) == stored


async def test_while_embeddings_are_away_a_passage_is_stored_and_says_so(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"embeddings": True, "status": 503, "repeat": "forever"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=ALL, embedding="openai/embed")
        with anyio.fail_after(30):
            (stored,) = await asked(
                w, provider, agent_id, call("archival_memory_insert", content="the green umbrella")
            )
        assert stored.status == "success"
        assert stored.text.startswith("passage-")
        assert "stored without an embedding" in stored.text
        (found,) = await asked(w, provider, agent_id, call("archival_memory_search", query="umbrella"))
        (hit,) = json.loads(found.text)
        assert hit["id"] == stored.text.split()[0]
        assert hit["relevance"]["search_mode"] == "fts"


async def test_a_passage_that_cannot_be_embedded_is_an_error_and_not_stored(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"embeddings": True, "status": 400, "repeat": "forever"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=ALL, embedding="openai/embed")
        (refused,) = await asked(w, provider, agent_id, call("archival_memory_insert", content="x"))
        assert refused.status == "error"
        assert "cannot be embedded" in refused.text
        async with connection(pool) as conn:
            assert await conn.fetchval("select count(*) from passages") == 0
