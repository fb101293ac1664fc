"""`wakeful agents export`: an agent as a file, page by page, with all it ever said and kept if asked for."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from urllib.parse import quote

import msgspec

from gateway.chat.client import Client
from gateway.commands.asking import ask
from storage.records import JsonObject

PAGE = 200


class Held(msgspec.Struct, frozen=True):
    """What is looked at of an agent."""

    message_ids: tuple[str, ...]


def export_agent(url: str, api_key: str | None, wanted: str, *, full: bool) -> None:
    """Write an agent file to standard output.

    `full` adds keys that other readers of agent files skip: `recall` (every message of the default
    conversation, oldest first), `window` (the ids of those that its model sees), `conversations` (the
    others, each with its `messages`), and `archival` (the passages). Written as it is read: no more than
    a page is held in memory. An import takes `recall` and `archival` over.

    Raises:
        ChatError: The server cannot be asked, or there is no such agent. What was written is incomplete.
    """

    async def write(client: Client) -> None:
        agent_id = (await client.find_agent(wanted)).id
        file = await client.ask("GET", f"/v1/agents/{agent_id}/export", msgspec.Raw)
        whole = bytes(file).rstrip()
        if not full:
            _out(whole + b"\n")
            return
        _out(whole.removesuffix(b"}").rstrip())
        async for part in _everything(client, agent_id):
            _out(part)
        _out(b"\n}\n")

    ask(url, api_key, write)


async def _everything(client: Client, agent_id: str) -> AsyncGenerator[bytes]:
    yield b',\n  "recall": '
    said = f"/v1/agents/{agent_id}/messages?order=asc&use_assistant_message=false"
    async for part in _array(client.pages(said, limit=PAGE)):
        yield part
    agent = await client.ask("GET", f"/v1/agents/{agent_id}", Held)
    yield b',\n  "window": ' + msgspec.json.encode(agent.message_ids)
    yield b',\n  "conversations": ['
    comma = b""
    async for page in client.pages(
        f"/v1/conversations/?agent_id={quote(agent_id)}&order=asc&archive_status=all"
    ):
        for conversation in page:
            yield comma + msgspec.json.encode(conversation).removesuffix(b"}") + b',"messages": '
            path = f"/v1/conversations/{conversation['id']}/messages?order=asc"
            async for part in _array(client.pages(path, limit=PAGE)):
                yield part
            yield b"}"
            comma = b",\n"
    yield b'],\n  "archival": '
    async for part in _array(
        client.pages(f"/v1/agents/{agent_id}/archival-memory?ascending=true", limit=PAGE)
    ):
        yield part


async def _array(pages: AsyncIterator[list[JsonObject]]) -> AsyncGenerator[bytes]:
    """Yield the pieces of a JSON array, an element a line."""
    yield b"["
    comma = b"\n"
    async for page in pages:
        for item in page:
            yield comma + msgspec.json.encode(item)
            comma = b",\n"
    yield b"]"


def _out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
