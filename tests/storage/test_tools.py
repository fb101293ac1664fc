"""Tools as rows."""

import msgspec
import pytest

from actors.tools.registry import BUILTIN, MEMORY_INSERT
from storage import organizations, tools
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from storage.tools import ToolFilter
from tests.storage import seeds

ORG_B = "org-00000000-0000-4000-8000-00000000000b"


async def found(conn: Conn, **filters: object) -> set[str]:
    where = ToolFilter(organization_id=DEFAULT_ORGANIZATION, **filters)  # type: ignore[arg-type]
    listed = await tools.list_page(conn, Page(), where=where)
    assert len(listed) == await tools.count(conn, where=where)
    return {tool.name for tool in listed}


async def test_every_organisation_gets_the_built_in_tools(pool: Pool) -> None:
    async with connection(pool) as conn:
        await organizations.create(conn, ORG_B, name="b")
        await tools.seed(conn, BUILTIN.values())
        for organization_id in (DEFAULT_ORGANIZATION, ORG_B):
            where = ToolFilter(organization_id=organization_id)
            listed = await tools.list_page(conn, Page(), where=where)
            assert {tool.name for tool in listed} == set(BUILTIN)


async def test_seeding_again_writes_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        before = await conn.fetch("select id, xmin::text from tools order by id")
        await tools.seed(conn, BUILTIN.values())
        after = await conn.fetch("select id, xmin::text from tools order by id")
    assert [tuple(row) for row in before] == [tuple(row) for row in after]


async def test_a_changed_definition_keeps_the_id_that_agents_hold(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        tool_id = await conn.fetchval("select id from tools where name = $1", MEMORY_INSERT.name)
        await tools.seed(conn, [msgspec.structs.replace(MEMORY_INSERT, description="new words")])
        read = await tools.get(conn, tool_id, organization_id=DEFAULT_ORGANIZATION)
    assert (read.name, read.description) == (MEMORY_INSERT.name, "new words")
    assert read.json_schema["description"] == "new words"


async def test_a_tool_of_another_organisation_does_not_exist(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        tool_id = await conn.fetchval("select id from tools limit 1")
        with pytest.raises(NotFoundError):
            await tools.get(conn, tool_id, organization_id=ORG_B)


async def test_filters_hold_all_at_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        agent_id = await seeds.agent(conn)
        tool_id = await conn.fetchval("select id from tools where name = 'memory_insert'")
        await conn.execute("insert into agents_tools values ($1, $2, 0)", agent_id, tool_id)
        memory = {spec.name for spec in BUILTIN.values() if spec.tool_type == "letta_memory_core"}
        assert await found(conn, agent_id=agent_id) == {"memory_insert"}
        assert await found(conn, name="memory_replace") == {"memory_replace"}
        assert await found(conn, names=("memory_insert", "nothing")) == {"memory_insert"}
        assert await found(conn, tool_ids=(tool_id,)) == {"memory_insert"}
        assert await found(conn, search="Y_RE") == {"memory_replace", "memory_rethink", "core_memory_replace"}
        assert await found(conn, tool_types=("letta_memory_core",)) == memory
        assert await found(conn, exclude_tool_types=("letta_memory_core",)) == BUILTIN.keys() - memory
        assert await found(conn, built_in_only=True) == set(BUILTIN)
