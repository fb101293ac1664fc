"""What few steps change besides, in the step's own transaction."""

from datetime import UTC, datetime

import pytest

from actors import clock
from storage import checkpoints, passages
from storage.archive_records import Passage
from storage.checkpoints import BlockWrite, Checkpoint
from storage.errors import FencedError, LabelTakenError, StaleBlocksError
from storage.extras import BlockNaming, Extras
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Block
from tests.storage import seeds

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def step(
    agent_id: str, *writes: BlockWrite, version: int = 0, fence: int = 0, **extras: object
) -> Checkpoint:
    return Checkpoint(
        id=clock.new_id("ckpt"),
        agent_id=agent_id,
        fence=fence,
        version=version,
        blocks=writes,
        extras=Extras(**extras),  # type: ignore[arg-type]
    )


def block(label: str, value: str = "v") -> Block:
    return Block(
        id=clock.new_id("block"),
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value=value,
        description=f"About {label}.",
        created_at=NOW,
        updated_at=NOW,
    )


def passage(text: str) -> Passage:
    return Passage(
        id=clock.new_id("passage"),
        organization_id=DEFAULT_ORGANIZATION,
        archive_id="",
        text=text,
        created_at=NOW,
        updated_at=NOW,
    )


def naming(block_id: str, label: str, description: str | None = None) -> BlockNaming:
    return BlockNaming(id=block_id, label=label, description=description)


def write(block_id: str, *, version: int = 0, value: str = "") -> BlockWrite:
    return BlockWrite(id=block_id, version=version, value=value)


async def labels(conn: Conn, agent_id: str) -> list[str]:
    """Return the labels an agent holds, which are those of its blocks."""
    rows = await conn.fetch(
        "select ab.label, b.label as own from agents_blocks ab join blocks b on b.id = ab.block_id"
        " where ab.agent_id = $1 order by ab.ordinal, ab.label",
        agent_id,
    )
    assert all(row["label"] == row["own"] for row in rows)
    return [row["label"] for row in rows]


async def test_a_step_creates_blocks_and_attaches_them_behind_the_others(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await seeds.block(conn, agent_id)
        created = block("notes"), block("diary")
        assert await checkpoints.commit(conn, [step(agent_id, created_blocks=created)]) == [None]
        assert await labels(conn, agent_id) == ["human", "notes", "diary"]
        stored = await conn.fetchrow("select value, description, version from blocks where label = 'notes'")
        assert stored is not None
        assert tuple(stored.values()) == ("v", "About notes.", 0)


async def test_a_detached_block_survives_and_its_label_is_free_at_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        old = await seeds.block(conn, agent_id, label="notes", value="old")
        new = block("notes", "new")
        commit = step(agent_id, detached_blocks=(old,), created_blocks=(new,))
        assert await checkpoints.commit(conn, [commit]) == [None]
        assert await labels(conn, agent_id) == ["notes"]
        assert await conn.fetchval("select value from blocks where id = $1", old) == "old"


async def test_a_renamed_block_is_renamed_for_everyone_at_one_higher_version(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, two = await seeds.agent(conn), await seeds.agent(conn)
        block_id = await seeds.block(conn, one, two)
        commit = step(one, write(block_id, value="x"), renamed_blocks=(naming(block_id, "person", "Who."),))
        assert await checkpoints.commit(conn, [commit]) == [None]
        assert await labels(conn, one) == await labels(conn, two) == ["person"]
        stored = await conn.fetchrow("select value, description, version from blocks")
        assert stored is not None
        assert tuple(stored.values()) == ("x", "Who.", 1)


async def test_labels_can_be_swapped_and_handed_on(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        a, b, c = [await seeds.block(conn, agent_id, other, label=label) for label in "abc"]
        renamed = (naming(a, "b"), naming(b, "a"), naming(c, "d"))
        commit = step(agent_id, *(write(x) for x in (a, b, c)), renamed_blocks=renamed)
        assert await checkpoints.commit(conn, [commit]) == [None]
        assert sorted(await labels(conn, agent_id)) == sorted(await labels(conn, other)) == ["a", "b", "d"]
        assert await conn.fetchval("select label from blocks where id = $1", a) == "b"


async def test_a_rename_of_a_block_that_changed_meanwhile_is_stale(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        block_id = await seeds.block(conn, agent_id)
        await conn.execute("update blocks set version = 1")
        commit = step(agent_id, write(block_id), renamed_blocks=(naming(block_id, "person"),))
        (outcome,) = await checkpoints.commit(conn, [commit])
        assert isinstance(outcome, StaleBlocksError)
        assert await labels(conn, agent_id) == ["human"]


async def test_a_label_that_is_taken_is_named_and_nothing_of_the_step_is_written(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        shared = await seeds.block(conn, agent_id, other, label="team")
        await seeds.block(conn, other, label="human")
        taken = [
            step(agent_id, created_blocks=(block("team"),)),
            step(agent_id, write(shared), renamed_blocks=(naming(shared, "human"),)),
        ]
        for commit, label in zip(taken, ("team", "human"), strict=True):
            with pytest.raises(LabelTakenError) as refused:
                await checkpoints.commit(conn, [commit])
            assert refused.value.label == label
            assert refused.value.constraint == "block_label_is_unique_per_agent"
        assert await conn.fetchval("select version from agents where id = $1", agent_id) == 0
        assert await conn.fetchval("select version from blocks where id = $1", shared) == 0
        assert await labels(conn, agent_id) == ["team"]


async def test_passages_go_to_the_agent_s_archive_which_is_made_with_the_first(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, other = await seeds.agent(conn), await seeds.agent(conn)
        first = step(agent_id, passages=(passage("one"), passage("two")))
        assert await checkpoints.commit(conn, [first]) == [None]
        assert await checkpoints.commit(conn, [step(agent_id, version=1, passages=(passage("3"),))]) == [None]
        assert await passages.count(conn, agent_id) == 3
        assert await passages.count(conn, other) == 0
        assert await conn.fetchval("select count(*) from archives") == 1


async def test_a_step_of_an_old_owner_writes_none_of_it(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, good = await seeds.agent(conn), await seeds.agent(conn)
        block_id = await seeds.block(conn, agent_id)
        await conn.execute("update agents set fence = 7 where id = $1", agent_id)
        fenced = step(
            agent_id,
            created_blocks=(block("notes"),),
            detached_blocks=(block_id,),
            passages=(passage("x"),),
        )
        first, second = await checkpoints.commit(conn, [fenced, step(good, created_blocks=(block("notes"),))])
        assert isinstance(first, FencedError)
        assert second is None
        assert await labels(conn, agent_id) == ["human"]
        assert await labels(conn, good) == ["notes"]
        assert await passages.count(conn, agent_id) == 0
