"""The official SDK on a real connection to a gateway whose model is scripted."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from letta_client import AsyncLetta

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import Served, listening

CALL = {
    "reasoning": "Better note it.",
    "tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}}],
}


class Connected:
    """The SDK connected to a server, and an agent on it."""

    def __init__(self, served: Served, url: str, client: AsyncLetta, agent_id: str) -> None:
        self.served = served
        self.url = url
        self.client = client
        self.agent_id = agent_id

    async def say(self, text: str, **more: Any) -> Any:
        return await self.client.agents.messages.create(self.agent_id, messages=[user(text)], **more)

    async def chunks(self, text: str, **more: Any) -> list[Any]:
        return [chunk async for chunk in await self.say(text, streaming=True, **more)]


def user(text: str, **more: Any) -> Any:
    return {"role": "user", "content": text, **more}


@asynccontextmanager
async def connected(pool: Pool, provider: Provider, **fields: Any) -> AsyncGenerator[Connected]:
    """Serve, connect the official SDK, and create an agent with `fields` and an empty block `human`."""
    async with (
        talking(pool, provider) as served,
        listening(served.app) as url,
        AsyncLetta(base_url=url, api_key="not-needed") as client,
    ):
        agent = await client.agents.create(
            name="sdk", model=MODEL, memory_blocks=[{"label": "human", "value": ""}], **fields
        )
        yield Connected(served, url, client, agent.id)
