"""Agents as rows."""

from datetime import UTC, datetime

import msgspec
import pytest

from actors import clock
from actors.tools.registry import BUILTIN
from storage import agents, organizations, tools
from storage.agents import EVERYTHING, AgentFilter, NewAgent, Profile, shard_of
from storage.errors import ConflictError, NotFoundError, UnknownToolsError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import (
    DEFAULT_ORGANIZATION,
    SHARDS,
    Agent,
    AgentSettings,
    Block,
    Message,
    TextPart,
)

AT = datetime(2026, 1, 2, tzinfo=UTC)
ORG_B = "org-00000000-0000-4000-8000-00000000000b"
EVERY_AGENT = AgentFilter(organization_id=DEFAULT_ORGANIZATION)


def new_agent(
    name: str = "a",
    *,
    blocks: tuple[Block, ...] = (),
    held: tuple[Block, ...] = (),
    tools: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    hidden: bool = False,
    organization_id: str = DEFAULT_ORGANIZATION,
    project_id: str | None = None,
) -> NewAgent:
    agent_id = clock.new_id("agent")
    agent = Agent(
        id=agent_id,
        organization_id=organization_id,
        name=name,
        settings=AgentSettings(model="openai/x", system="You are a test.", project_id=project_id),
        created_at=AT,
        updated_at=AT,
        tags=tags,
        hidden=hidden,
        created_by_id="user-1",
    )
    system = Message(
        id=clock.new_id("message"),
        organization_id=organization_id,
        agent_id=agent_id,
        conversation_id=agent_id,
        position=0,
        role="system",
        content=(TextPart("You are a test."),),
        created_at=AT,
        tokens=5,
    )
    return NewAgent(agent=agent, system=system, blocks=blocks, held=held, tools=tools)


def new_block(label: str) -> Block:
    return Block(
        id=clock.new_id("block"),
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value=f"the {label}",
        created_at=AT,
        updated_at=AT,
        metadata={"a": [1, None]},
        tags=("t",),
        template={"is_template": True},
    )


async def make(conn: Conn, name: str = "a", **more: object) -> Profile:
    return await agents.create(conn, new_agent(name, **more))  # type: ignore[arg-type]


async def names(conn: Conn, page: Page, where: AgentFilter = EVERY_AGENT) -> list[str]:
    return [p.agent.name for p in await agents.list_page(conn, page, where=where)]


def test_a_shard_is_the_same_on_every_machine_and_in_range() -> None:
    assert shard_of("agent-00000000-0000-4000-8000-000000000000") == 1407  # crc32 mod 4096
    assert {0 <= shard_of(clock.new_id("agent")) < SHARDS for _ in range(100)} == {True}


async def test_a_created_agent_is_read_back_whole(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        new = new_agent(
            blocks=(new_block("human"), new_block("persona")), tools=("memory_insert", "memory_replace")
        )
        created = await agents.create(conn, new)
        read = await agents.get(conn, created.agent.id, organization_id=DEFAULT_ORGANIZATION)

    assert read == created
    assert read.message_ids == (new.system.id,)
    assert [b.label for b in read.blocks] == ["human", "persona"]
    assert read.blocks[0].metadata == {"a": [1, None]}
    assert [t.name for t in read.tools] == ["memory_insert", "memory_replace"]
    assert read.agent.created_by_id == read.agent.last_updated_by_id == "user-1"


async def test_a_created_agent_has_its_conversation_and_its_shard(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = (await make(conn)).agent.id
        row = await conn.fetchrow(
            "select c.from_position, c.end_position, m.role, m.tokens, m.content, a.shard"
            "  from agents a join conversations c on c.id = a.id join messages m on m.conversation_id = c.id"
            " where a.id = $1",
            agent_id,
        )
    assert row is not None
    assert (row["from_position"], row["end_position"], row["role"], row["tokens"]) == (1, 1, "system", 5)
    assert msgspec.json.decode(row["content"], type=tuple[TextPart, ...]) == (TextPart("You are a test."),)
    assert row["shard"] == shard_of(agent_id)


async def test_an_agent_with_an_unknown_tool_is_not_half_created(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        unknown = "tool-00000000-0000-4000-8000-000000000000"
        wanted = ("memory_insert", "no_such_tool", unknown, "nor_this")
        with pytest.raises(UnknownToolsError) as error:
            await make(conn, blocks=(new_block("human"),), tools=wanted)
        assert error.value.names == ("no_such_tool", "nor_this")
        assert error.value.ids == (unknown,)
        for table in ("agents", "conversations", "messages", "blocks", "agents_blocks", "agents_tools"):
            assert await conn.fetchval(f"select count(*) from {table}") == 0


async def test_tools_are_found_by_name_and_by_id_and_held_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        tool_id = await conn.fetchval("select id from tools where name = 'conversation_search'")
        created = await make(conn, tools=("memory_insert", tool_id, "conversation_search"))
    assert [t.name for t in created.tools] == ["memory_insert", "conversation_search"]


async def test_an_existing_block_is_shared_not_copied(pool: Pool) -> None:
    async with connection(pool) as conn:
        first = await make(conn, blocks=(new_block("human"),))
        second = await make(conn, held=first.blocks, blocks=(new_block("persona"),))
        assert await conn.fetchval("select count(*) from blocks") == 2
    assert second.blocks[0].id == first.blocks[0].id


async def test_a_held_block_that_is_gone_refuses_the_whole_agent(pool: Pool) -> None:
    with pytest.raises(ConflictError):
        async with connection(pool) as conn:
            await make(conn, held=(new_block("human"),))
    async with connection(pool) as conn:
        assert await conn.fetchval("select count(*) from agents") == 0


async def test_relations_are_read_only_when_asked_for(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        created = await make(conn, blocks=(new_block("human"),), tools=("memory_insert",))
        org, agent_id = DEFAULT_ORGANIZATION, created.agent.id
        bare = await agents.get(conn, agent_id, organization_id=org, relations=frozenset())
        full = await agents.get(conn, agent_id, organization_id=org, relations=EVERYTHING)
    assert (bare.blocks, bare.tools, bare.message_ids) == ((), (), ())
    assert (full.blocks, full.tools) == (created.blocks, created.tools)
    assert full.message_ids == created.message_ids
    assert "messages" not in agents._read(frozenset({"blocks", "tools"}))  # pyright: ignore[reportPrivateUsage]


async def test_message_ids_are_the_window_without_excluded_messages(pool: Pool) -> None:
    async with connection(pool) as conn:
        created = await make(conn)
        agent_id = created.agent.id
        for position in range(1, 6):
            await conn.execute(
                "insert into messages (id, conversation_id, position, agent_id, organization_id, role,"
                " content, excluded) values ($1, $2, $3, $2, 'o', 'user', '[]', $4)",
                f"message-{position}",
                agent_id,
                position,
                position == 4,
            )
        await conn.execute(
            "update conversations set from_position = 3, end_position = 6 where id = $1", agent_id
        )
        read = await agents.get(conn, agent_id, organization_id=DEFAULT_ORGANIZATION)
    assert read.message_ids == (created.message_ids[0], "message-3", "message-5")


async def test_an_agent_of_another_organisation_does_not_exist(pool: Pool) -> None:
    async with connection(pool) as conn:
        await organizations.create(conn, ORG_B, name="b")
        created = await make(conn)
        with pytest.raises(NotFoundError):
            await agents.get(conn, created.agent.id, organization_id=ORG_B)
        with pytest.raises(NotFoundError):
            await agents.check(conn, created.agent.id, organization_id=ORG_B)
        where = AgentFilter(organization_id=ORG_B)
        assert await agents.list_page(conn, Page(), where=where) == []
        with pytest.raises(NotFoundError):
            await agents.list_page(conn, Page(after=created.agent.id), where=where)


async def test_pages_meet_without_gap_or_repeat(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = [await make(conn, f"a{i}") for i in range(7)]
        newest_first = [p.agent.name for p in reversed(made)]
        seen: list[str] = []
        after: str | None = None
        while found := await agents.list_page(conn, Page(limit=3, after=after), where=EVERY_AGENT):
            seen += [p.agent.name for p in found]
            after = found[-1].agent.id
        assert seen == newest_first
        assert await names(conn, Page(limit=2, before=made[0].agent.id)) == ["a2", "a1"]
        assert await names(conn, Page(limit=2, descending=False)) == ["a0", "a1"]


async def test_equal_times_are_still_paged_without_repeat(pool: Pool) -> None:
    async with connection(pool) as conn:
        async with conn.transaction():  # one transaction: one now() for all of them
            made = {(await make(conn, f"a{i}")).agent.id for i in range(5)}
        seen: list[str] = []
        after: str | None = None
        while found := await agents.list_page(conn, Page(limit=2, after=after), where=EVERY_AGENT):
            seen += [p.agent.id for p in found]
            after = found[-1].agent.id
    assert len(seen) == 5
    assert set(seen) == made


async def test_filters_hold_all_at_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        fox = await make(conn, "Red Fox", tags=("a", "b"), project_id="p1")
        await make(conn, "red hen", tags=("b",), project_id="p2")
        await make(conn, "ghost", tags=("a", "b"), hidden=True)

        async def found(**filters: object) -> list[str]:
            where = AgentFilter(organization_id=DEFAULT_ORGANIZATION, **filters)  # type: ignore[arg-type]
            listed = await names(conn, Page(descending=False), where)
            assert len(listed) == await agents.count(conn, where=where)
            return listed

        assert await found() == ["Red Fox", "red hen"]
        assert await found(name="red hen") == ["red hen"]
        assert await found(tags=("a", "b")) == ["Red Fox", "red hen"]
        assert await found(tags=("a", "b"), match_all_tags=True) == ["Red Fox"]
        assert await found(query_text="RED") == ["Red Fox", "red hen"]
        assert await found(query_text="%") == []
        assert await found(project_id="p2", query_text="red") == ["red hen"]
        assert await found(created_by_id="user-1") == ["Red Fox", "red hen"]
        assert await found(last_stop_reason="end_turn") == []
        assert await found(ids=(fox.agent.id, "other")) == ["Red Fox"]
        assert await found(ids=()) == []


async def test_agents_are_sorted_by_their_last_run_and_those_without_come_last(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = [await make(conn, f"a{i}") for i in range(3)]
        for place, minute in ((0, 5), (2, 1)):
            await conn.execute(
                "update agents set last_run_completed_at = now() + $2 * interval '1 minute' where id = $1",
                made[place].agent.id,
                minute,
            )
        found = await agents.list_page(conn, Page(), where=EVERY_AGENT, order_by="last_run_completion")
        assert [p.agent.name for p in found] == ["a0", "a2", "a1"]
        rest = await agents.list_page(
            conn, Page(after=made[2].agent.id), where=EVERY_AGENT, order_by="last_run_completion"
        )
        assert [p.agent.name for p in rest] == ["a1"]


async def test_a_list_by_age_reads_its_index(pool: Pool) -> None:
    async with connection(pool) as conn:
        await conn.execute(
            "insert into agents (id, organization_id, name, settings, shard)"
            ' select \'agent-\' || i, $1, \'a\', \'{"model":"m","system":"s"}\', 0'
            " from generate_series(1, 2000) i",
            DEFAULT_ORGANIZATION,
        )
        await conn.execute("analyze agents")
        plan = await conn.fetch(
            "explain select id from agents a where organization_id = $1 and not hidden"
            " order by created_at desc, id desc limit 50",
            DEFAULT_ORGANIZATION,
        )
    assert any("agents_by_age" in row[0] for row in plan)


async def test_creating_an_agent_is_one_round_trip(pool: Pool) -> None:
    statements: list[str] = []
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        with conn.query_logger(lambda record: statements.append(record.query)):  # type: ignore[attr-defined]
            await make(conn, blocks=(new_block("human"),), tools=("memory_insert",))
    assert len(statements) == 1


async def test_the_names_of_an_organisation_are_those_of_its_youngest_agents(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = [(await agents.create(conn, new_agent(f"agent {i}"))).agent for i in range(3)]
        await agents.create(conn, new_agent("hidden", hidden=True))
        of = made[0].organization_id
        everyone = await agents.names(conn, organization_id=of, among=None, limit=9)
        assert everyone == [(agent.id, agent.name) for agent in reversed(made)]
        assert await agents.names(conn, organization_id=of, among=None, limit=1) == everyone[:1]
        assert await agents.names(conn, organization_id=of, among=[made[0].id], limit=9) == everyone[2:]
        assert await agents.names(conn, organization_id="org-other", among=None, limit=9) == []
