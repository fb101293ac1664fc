"""Tools that Letta's server has and this one has not: programs that ask for them can go on without."""

from typing import Any

import pytest
from letta_client import BadRequestError, Letta

from storage.pool import Pool
from tests.contract.sdk import with_sdk

UNKNOWN = "tool-00000000-0000-4000-8000-000000000000"


async def test_an_agent_with_tools_that_there_are_none_of_is_refused_naming_all_of_them(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        before = len(list(client.agents.list()))
        with pytest.raises(BadRequestError) as refused:
            client.agents.create(model="demo/scripted", tools=["grep_files", "memory_insert", "open_files"])
        body: Any = refused.value.body
        # The words and the status by which letta-code tells this from other failures.
        assert body["detail"].startswith("Tools not found by name: {'grep_files', 'open_files'}")
        assert body["error"]["param"] == "/tools"
        with pytest.raises(BadRequestError, match=rf"Tools not found by id: {{'{UNKNOWN}'}}"):
            client.agents.create(model="demo/scripted", tool_ids=[UNKNOWN])
        assert len(list(client.agents.list())) == before

    await with_sdk(pool, scenario)


async def test_adding_the_base_tools_changes_nothing_and_lists_them(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        before = {tool.name: tool.id for tool in client.tools.list(limit=100)}
        added: Any = client.post("/v1/tools/add-base-tools", cast_to=object)
        assert {tool["name"]: tool["id"] for tool in added} == before
        assert {tool.name: tool.id for tool in client.tools.list(limit=100)} == before

    await with_sdk(pool, scenario)
