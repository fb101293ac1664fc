"""The official SDK's tags: the words that agents and blocks are marked with."""

from letta_client import Letta

from storage.pool import Pool
from tests.contract.sdk import with_sdk


async def test_tags_of_agents_and_blocks_are_one_list_that_pages(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        assert client.tags.list() == []
        client.agents.create(model="demo/scripted", tags=["red", "blue"])
        client.agents.create(model="demo/scripted", tags=["red", "green"])
        client.blocks.create(label="human", value="", tags=["dark red"])
        every = ["blue", "dark red", "green", "red"]
        assert client.tags.list() == every
        assert client.tags.list(order="desc") == every[::-1]
        assert client.tags.list(limit=2) == every[:2]
        assert client.tags.list(limit=2, after="dark red") == every[2:]
        assert client.tags.list(limit=1, before="green") == ["dark red"]
        assert client.tags.list(limit=1, before="green", order="desc") == ["red"]
        assert client.tags.list(order="desc", after="dark red") == ["blue"]
        assert client.tags.list(name="red") == client.tags.list(query_text="RED") == ["dark red", "red"]
        assert client.tags.list(name="none") == []

    await with_sdk(pool, scenario)
