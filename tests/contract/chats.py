"""The `ai` package's own chat, headless under Node, on a real connection to a gateway."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.node import Node, Running


class Chat:
    """A chat as `useChat` has it. Every command returns the state of the chat after it."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def do(self, name: str, **more: Any) -> dict[str, Any]:
        """Let the chat do something; with `until` return as soon as its messages contain those words."""
        await self._running.tell(json.dumps({"do": name, **more}))
        return json.loads(await self._running.line())

    async def send(self, text: str, **more: Any) -> dict[str, Any]:
        """Send a message."""
        return await self.do("send", text=text, **more)


@asynccontextmanager
async def chatting(node: Node, url: str, agent_id: str, chat_id: str, **options: Any) -> AsyncGenerator[Chat]:
    """Run a chat of an agent until the block ends."""
    api = f"{url}/v1/ai-sdk/agents/{agent_id}/chat"
    async with node.start("ai_chat.mjs", api, chat_id, json.dumps(options)) as running:
        yield Chat(running)


def parts(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what a message shows: (text | reasoning, its text), (the tool, its state), (data, its value)."""
    shown: list[tuple[str, Any]] = []
    for part in message["parts"]:
        kind = part["type"]
        if kind in ("text", "reasoning"):
            shown.append((kind, part["text"]))
        elif kind == "dynamic-tool":
            shown.append((part["toolName"], part["state"]))
        elif kind.startswith("tool-"):
            shown.append((kind, part["state"]))
        elif kind.startswith("data-"):
            shown.append((kind, part["data"]))
    return shown
