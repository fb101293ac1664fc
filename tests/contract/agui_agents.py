"""`@ag-ui/client`'s own HttpAgent under Node, on a real connection to a gateway."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.node import Node, Running


class Agent:
    """An agent as a front end has it. Every run returns what the client made of it."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def run(self, text: str | None = None, **more: Any) -> dict[str, Any]:
        """Run the agent, with a message of the user where one is given."""
        if text is not None:
            more["user"] = {"id": f"user-{text}", "content": text}
        await self._running.tell(json.dumps(more))
        return json.loads(await self._running.line())


@asynccontextmanager
async def agent(node: Node, url: str, agent_id: str, thread: str, **headers: str) -> AsyncGenerator[Agent]:
    """Run a client of an agent until the block ends."""
    where = f"{url}/v1/agui/agents/{agent_id}"
    async with node.start("agui_sse.mjs", where, thread, json.dumps(headers)) as running:
        yield Agent(running)


def shown(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return (role, what it says) of a client's messages: of calls their names."""
    return [
        (m["role"], m.get("content") or tuple(c["function"]["name"] for c in m.get("toolCalls", ())))
        for m in messages
    ]
