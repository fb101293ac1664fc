"""The official SDK's blocks, and the blocks of an agent."""

from typing import Any

import pytest
from letta_client import ConflictError, Letta, NotFoundError, UnprocessableEntityError

from storage.pool import Pool
from tests.contract.sdk import with_sdk

MISSING = "block-00000000-0000-4000-8000-000000000000"


async def test_a_block_lives_through_the_sdk(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = client.blocks.create(
            label="notes",
            value="v",
            limit=10,
            description="d",
            metadata={"k": [1]},
            tags=["t"],
            read_only=True,
        )
        assert client.blocks.retrieve(made.id) == made
        assert (made.limit, made.read_only, made.tags, made.metadata) == (10, True, ["t"], {"k": [1]})
        changed = client.blocks.update(made.id, value="far longer than the limit", tags=[])
        assert (changed.value, changed.tags, changed.description) == ("far longer than the limit", [], "d")
        client.blocks.delete(made.id)
        with pytest.raises(NotFoundError):
            client.blocks.retrieve(made.id)
        with pytest.raises(UnprocessableEntityError):
            client.blocks.create(label="</notes>", value="v")

    await with_sdk(pool, scenario)


async def test_the_sdk_pages_through_every_block_once(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = [client.blocks.create(label=f"b{i}", value=f"value {i}").id for i in range(7)]
        assert [b.id for b in client.blocks.list(limit=3)] == made
        assert [b.id for b in client.blocks.list(limit=3, order="desc")] == made[::-1]
        assert [b.id for b in client.blocks.list(label="b4")] == [made[4]]
        assert [b.id for b in client.blocks.list(value_search="value 2")] == [made[2]]

    await with_sdk(pool, scenario)


async def test_an_agents_blocks_are_used_by_label(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(memory_blocks=[{"label": "human", "value": "Sam"}])
        blocks = client.agents.blocks
        assert blocks.retrieve("human", agent_id=agent.id).value == "Sam"
        assert blocks.update("human", agent_id=agent.id, value="Kim").value == "Kim"
        assert [b.value for b in blocks.list(agent.id)] == ["Kim"]
        with pytest.raises(NotFoundError):
            blocks.retrieve("persona", agent_id=agent.id)
        with pytest.raises(NotFoundError):
            blocks.update("persona", agent_id=agent.id, value="x")

    await with_sdk(pool, scenario)


async def test_a_block_is_shared_by_agents(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        shared = client.blocks.create(label="team", value="v1")
        one = client.agents.create(name="one", block_ids=[shared.id])
        two = client.agents.create(name="two")
        attached = client.agents.blocks.attach(shared.id, agent_id=two.id)
        assert [b.id for b in attached.memory.blocks] == [shared.id]
        assert [a.name for a in client.blocks.agents.list(shared.id)] == ["two", "one"]

        client.agents.blocks.update("team", agent_id=one.id, value="v2")
        assert client.agents.blocks.retrieve("team", agent_id=two.id).value == "v2"
        client.blocks.update(shared.id, value="v3")
        assert client.agents.blocks.retrieve("team", agent_id=one.id).value == "v3"

        rival = client.blocks.create(label="team", value="other")
        with pytest.raises(ConflictError) as error:
            client.agents.blocks.attach(rival.id, agent_id=one.id)
        assert error.value.response.headers["x-should-retry"] == "false"

        detached = client.agents.blocks.detach(shared.id, agent_id=one.id)
        assert detached.blocks == []
        assert client.blocks.retrieve(shared.id).value == "v3"

    await with_sdk(pool, scenario)


async def test_a_label_with_a_slash_travels_in_the_path(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(memory_blocks=[{"label": "system/human", "value": "Sam"}])
        assert client.agents.blocks.retrieve("system/human", agent_id=agent.id).value == "Sam"

    await with_sdk(pool, scenario)


async def test_what_is_missing_is_not_found(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create()
        for call in (
            lambda: client.blocks.retrieve(MISSING),
            lambda: client.blocks.update(MISSING, value="x"),
            lambda: client.blocks.delete(MISSING),
            lambda: client.agents.blocks.attach(MISSING, agent_id=agent.id),
            lambda: client.blocks.agents.list(MISSING),
        ):
            with pytest.raises(NotFoundError):
                call()

    await with_sdk(pool, scenario)


async def test_an_agents_memory_is_read_as_a_whole(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(model="demo/scripted", memory_blocks=[{"label": "human", "value": "x"}])
        memory: Any = client.get(f"/v1/agents/{agent.id}/core-memory", cast_to=object)
        assert memory == agent.to_dict()["memory"]

    await with_sdk(pool, scenario)
