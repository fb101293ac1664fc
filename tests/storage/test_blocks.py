"""Memory blocks as rows."""

from datetime import UTC, datetime

import anyio
import pytest

from actors import clock
from storage import blocks, organizations
from storage.blocks import BlockFilter
from storage.errors import ConflictError, NotFoundError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Block, BlockChanges
from tests.storage import seeds

AT = datetime(2026, 1, 2, tzinfo=UTC)
ORG_B = "org-00000000-0000-4000-8000-00000000000b"


async def make(conn: Conn, label: str = "human", **more: object) -> Block:
    block = Block(
        id=clock.new_id("block"),
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value="v",
        created_at=AT,
        updated_at=AT,
    )
    values = {name: getattr(block, name) for name in Block.__struct_fields__}
    return await blocks.create(conn, Block(**{**values, **more}))


async def found(conn: Conn, **filters: object) -> list[str]:
    where = BlockFilter(organization_id=DEFAULT_ORGANIZATION, **filters)  # type: ignore[arg-type]
    listed = await blocks.list_page(conn, Page(descending=False), where=where)
    assert len(listed) == await blocks.count(conn, where=where)
    return [block.label for block in listed]


async def test_a_created_block_is_read_back_whole(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = await make(
            conn,
            metadata={"k": [1, "é"]},
            tags=("x", "y"),
            template={"template_name": "n"},
            description="d",
            read_only=True,
            limit_chars=7,
        )
        assert await blocks.get(conn, made.id, organization_id=DEFAULT_ORGANIZATION) == made
    assert made.created_at > AT


async def test_text_comes_back_byte_for_byte(pool: Pool) -> None:
    odd = "\ufeff\u0645\u0631\u062d\u0628\u0627 \u202e {{x}} \\ ' \" \ufffe\U000e0041 \x1b[2J\r\n"
    async with connection(pool) as conn:
        made = await make(conn, value=odd)
        read = await blocks.get(conn, made.id, organization_id=DEFAULT_ORGANIZATION)
    assert read.value == odd


async def test_an_update_changes_only_what_it_names_and_counts_the_version(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = await make(conn, description="d", template={"template_name": "n"})
        async with conn.transaction():
            changed = await blocks.update(
                conn,
                made.id,
                BlockChanges(value="new", template={"is_template": True}, last_updated_by_id="user-2"),
                organization_id=DEFAULT_ORGANIZATION,
            )
    assert (changed.value, changed.description, changed.version) == ("new", "d", made.version + 1)
    assert changed.template == {"template_name": "n", "is_template": True}
    assert changed.last_updated_by_id == "user-2"


async def test_no_update_is_lost_when_many_write_at_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = await make(conn)

    async def write(number: int) -> None:
        async with connection(pool) as conn, conn.transaction():
            await blocks.update(
                conn,
                made.id,
                BlockChanges(value=str(number)),
                organization_id=DEFAULT_ORGANIZATION,
            )

    with anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            for number in range(24):
                group.start_soon(write, number)
    async with connection(pool) as conn:
        read = await blocks.get(conn, made.id, organization_id=DEFAULT_ORGANIZATION)
    assert read.version == made.version + 24


async def test_a_new_label_reaches_every_agent_that_holds_the_block(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, two = await seeds.agent(conn), await seeds.agent(conn)
        block_id = await seeds.block(conn, one, two)
        async with conn.transaction():
            await blocks.update(
                conn, block_id, BlockChanges(label="person"), organization_id=DEFAULT_ORGANIZATION
            )
        for agent_id in (one, two):
            read = await blocks.get_by_label(conn, agent_id, "person", organization_id=DEFAULT_ORGANIZATION)
            assert read.id == block_id


async def test_a_label_that_an_agent_has_already_is_refused(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        block_id = await seeds.block(conn, agent_id, label="human")
        await seeds.block(conn, agent_id, label="persona")
    with pytest.raises(ConflictError) as error:
        async with connection(pool) as conn, conn.transaction():
            await blocks.update(
                conn, block_id, BlockChanges(label="persona"), organization_id=DEFAULT_ORGANIZATION
            )
    assert error.value.constraint == "block_label_is_unique_per_agent"
    async with connection(pool) as conn:
        read = await blocks.get(conn, block_id, organization_id=DEFAULT_ORGANIZATION)
    assert (read.label, read.version) == ("human", 0)


async def test_a_deleted_block_is_detached_everywhere(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        block_id = await seeds.block(conn, agent_id)
        await blocks.delete(conn, block_id, organization_id=DEFAULT_ORGANIZATION)
        assert await conn.fetchval("select count(*) from agents_blocks") == 0
        with pytest.raises(NotFoundError):
            await blocks.delete(conn, block_id, organization_id=DEFAULT_ORGANIZATION)


async def test_blocks_of_another_organisation_do_not_exist(pool: Pool) -> None:
    async with connection(pool) as conn:
        await organizations.create(conn, ORG_B, name="b")
        agent_id = await seeds.agent(conn)
        block_id = await seeds.block(conn, agent_id)
        with pytest.raises(NotFoundError):
            await blocks.get(conn, block_id, organization_id=ORG_B)
        with pytest.raises(NotFoundError):
            await blocks.get_many(conn, [block_id], organization_id=ORG_B)
        with pytest.raises(NotFoundError):
            await blocks.get_by_label(conn, agent_id, "human", organization_id=ORG_B)
        with pytest.raises(NotFoundError):
            await blocks.update(conn, block_id, BlockChanges(value="x"), organization_id=ORG_B)
        with pytest.raises(NotFoundError):
            await blocks.delete(conn, block_id, organization_id=ORG_B)
        where = BlockFilter(organization_id=ORG_B)
        assert await blocks.list_page(conn, Page(), where=where) == []


async def test_many_blocks_come_in_the_order_asked_for(pool: Pool) -> None:
    async with connection(pool) as conn:
        made = [await make(conn, f"b{i}") for i in range(3)]
        wanted = [made[2].id, made[0].id]
        read = await blocks.get_many(conn, wanted, organization_id=DEFAULT_ORGANIZATION)
        assert [block.id for block in read] == wanted
        missing = "block-00000000-0000-4000-8000-000000000000"
        with pytest.raises(NotFoundError) as error:
            await blocks.get_many(conn, [made[0].id, missing], organization_id=DEFAULT_ORGANIZATION)
    assert error.value.id == missing


async def test_filters_hold_all_at_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        await make(conn, "human", value="likes 100% tea", tags=("a", "b"), project_id="p")
        await make(conn, "persona", value="calm", tags=("b",), description="Who")
        await make(conn, "tpl", template={"is_template": True, "template_name": "T"})
        await make(conn, "ghost", hidden=True)
        assert await found(conn) == ["human", "persona", "tpl"]
        assert await found(conn, label="persona") == ["persona"]
        assert await found(conn, tags=("a", "b")) == ["human", "persona"]
        assert await found(conn, tags=("a", "b"), match_all_tags=True) == ["human"]
        assert await found(conn, project_id="p") == ["human"]
        assert await found(conn, templates_only=True) == ["tpl"]
        assert await found(conn, template_name="T") == ["tpl"]
        assert await found(conn, label_search="MAN") == ["human"]
        assert await found(conn, description_search="who") == ["persona"]
        assert await found(conn, value_search="0% T") == ["human"]
        assert await found(conn, value_search="_") == []


async def test_blocks_are_found_by_how_many_agents_hold_them(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, two = await seeds.agent(conn), await seeds.agent(conn)
        await seeds.block(conn, label="none")
        await seeds.block(conn, one, label="once")
        await seeds.block(conn, one, two, label="twice")
        assert await found(conn, more_agents_than=0) == ["once", "twice"]
        assert await found(conn, fewer_agents_than=1) == ["none"]
        assert await found(conn, agent_counts=(0, 2)) == ["none", "twice"]


async def test_an_agent_lists_its_hidden_blocks_too(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        await seeds.block(conn, agent_id, label="seen")
        hidden = await seeds.block(conn, agent_id, label="unseen")
        await conn.execute("update blocks set hidden = true where id = $1", hidden)
        assert await found(conn, agent_id=agent_id) == ["seen", "unseen"]
