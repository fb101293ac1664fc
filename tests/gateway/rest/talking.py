"""A gateway whose agents talk to the scripted provider, and short ways to read what it answers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from actors.llm.providers import provider_for
from bench.provider import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.serving import Served, serving

MODEL = "openai/scripted"
MEMORY = {"memory_blocks": [{"label": "human", "value": ""}]}
CALL = {
    "reasoning": "Better note it.",
    "text": "Noting.",
    "tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}}],
}  # a step that edits the block of `MEMORY`


@asynccontextmanager
async def talking(
    pool: Pool, provider: Provider, *, settings: Settings | None = None
) -> AsyncGenerator[Served]:
    """Run a gateway whose provider `openai` is the scripted one."""
    providers = (provider_for("openai", provider.base_url, "sk-test"),)
    async with serving(pool, providers=providers, settings=settings) as served:
        yield served


async def new_agent(served: Served, **fields: Any) -> str:
    """Create an agent of the scripted model; return its id."""
    return (await served.agent(model=MODEL, include_base_tools=True, **fields))["id"]


def user(text: str, **more: Any) -> dict[str, Any]:
    """Return the body that sends one user message."""
    return {"messages": [{"role": "user", "content": text, **more.pop("message", {})}], **more}


async def send(served: Served, agent_id: str, body: dict[str, Any], **more: Any) -> Any:
    """Send a request's messages to an agent and return the answer."""
    return await served.json("POST", f"/v1/agents/{agent_id}/messages", json=body, **more)


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """Return the message types."""
    return [message["message_type"] for message in messages]


def events(stream: str) -> list[dict[str, Any]]:
    """Return the JSON of a whole stream's events; it must end with [DONE]."""
    chunks = stream.split("\n\n")
    assert chunks[-2:] == ["data: [DONE]", ""], chunks[-3:]
    return [msgspec.json.decode(chunk.partition("data: ")[2]) for chunk in chunks[:-2]]
