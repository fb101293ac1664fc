"""`wakeful memory`: an agent's blocks shown, edited without overwriting the agent, and its past searched."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from gateway.chat.client import ChatError, Client, RefusedError, Reply
from gateway.commands.agents import write_block
from gateway.commands.asking import ask, print_heading, print_json, print_text
from storage.records import JsonObject

EDITORS = ("VISUAL", "EDITOR")
USUAL_EDITOR = "vi"


class Found(Struct, frozen=True):
    """What a search found: passages of archival memory, and messages."""

    archival: list[JsonObject]
    recall: list[JsonObject]


class _Passages(Struct, frozen=True):
    results: list[JsonObject]


class _Block(Struct, frozen=True):
    label: str
    value: str
    read_only: bool = False


def show(url: str, api_key: str | None, wanted: str, *, as_json: bool) -> None:
    """Write the blocks of an agent.

    Raises:
        ChatError: The server cannot be asked, or there is no such agent.
    """

    async def read(client: Client) -> list[JsonObject]:
        agent_id = (await client.find_agent(wanted)).id
        path = f"/v1/agents/{agent_id}/core-memory/blocks?order=asc"
        return [block async for page in client.pages(path) for block in page]

    blocks = ask(url, api_key, read)
    if as_json:
        print_json(blocks)
        return
    for block in blocks:
        write_block(block)


def search(url: str, api_key: str | None, wanted: str, query: str, *, limit: int, as_json: bool) -> None:
    """Write what an agent's archival memory and its conversations hold about `query`, the best first.

    Raises:
        ChatError: The server cannot be asked, or there is no such agent.
    """

    async def find(client: Client) -> Found:
        agent_id = (await client.find_agent(wanted)).id
        asked = urlencode({"query": query, "top_k": limit})
        passages = await client.ask("GET", f"/v1/agents/{agent_id}/archival-memory/search?{asked}", _Passages)
        body = {"query": query, "agent_id": agent_id, "limit": limit}
        return Found(
            passages.results, await client.ask("POST", "/v1/messages/search", list[JsonObject], body)
        )

    found = ask(url, api_key, find)
    if as_json:
        print_json(found)
        return
    print_heading(f"archival memory: {len(found.archival)} found")
    for passage in found.archival:
        _write_hit(str(passage["timestamp"]), "", passage["content"])
    print_heading(f"conversations: {len(found.recall)} found")
    for message in found.recall:
        _write_hit(
            message["created_at"], message["message_type"].removesuffix("_message"), message["content"]
        )


def _write_hit(when: str, who: str, text: str) -> None:
    print_text(f"{when[:16].replace('T', ' ')}  {f'{who}: ' if who else ''}{text}")


def edit(url: str, api_key: str | None, wanted: str, label: str) -> None:
    """Open a block in the editor and store what comes back, unless the agent changed it meanwhile.

    Raises:
        ChatError: The block cannot be read or was changed by somebody else; the text is kept in a file.
    """
    path = ask(url, api_key, lambda client: _path(client, wanted, label))
    reply = ask(url, api_key, lambda client: client.fetch("GET", path))
    block = _decoded(reply)
    draft = _draft(label, block.value)
    _open_editor(draft)
    text = _text(draft)
    if not block.value.endswith("\n"):
        text = text.removesuffix("\n")  # which editors add
    if text == block.value:
        print_text("nothing changed")
    else:
        ask(url, api_key, lambda client: _write(client, path, text, reply.etag, draft))
        print_text(f"{label}: {len(block.value)} -> {len(text)} characters")
    draft.unlink()


async def _path(client: Client, wanted: str, label: str) -> str:
    """Return the path of a block that the agent holds."""
    agent_id = (await client.find_agent(wanted)).id
    held = await client.ask("GET", f"/v1/agents/{agent_id}/core-memory/blocks?limit=1000", list[_Block])
    if all(block.label != label for block in held):
        labels = ", ".join(sorted(block.label for block in held)) or "none"
        raise ChatError(f"the agent has no block {label!r}; it has: {labels}")
    return f"/v1/agents/{agent_id}/core-memory/blocks/{quote(label, safe='')}"


def _decoded(reply: Reply) -> _Block:
    try:
        return msgspec.json.decode(reply.body, type=_Block)
    except msgspec.MsgspecError:
        raise ChatError("the server does not answer like a wakeful server") from None


def _draft(label: str, text: str) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"{label.replace('/', '-')}-", suffix=".md")
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode())
    return Path(name)


def _text(draft: Path) -> str:
    """Return what the editor left, its line ends as they are."""
    try:
        return draft.read_bytes().decode()
    except OSError as error:
        raise ChatError(f"{draft} cannot be read: {error.strerror}; nothing was changed") from error
    except UnicodeDecodeError as error:
        raise ChatError(f"what the editor left in {draft} is no UTF-8 text; nothing was changed") from error


def _open_editor(draft: Path) -> None:
    command = next((os.environ[name] for name in EDITORS if os.environ.get(name)), USUAL_EDITOR)
    try:
        code = subprocess.run([*shlex.split(command), str(draft)], check=False).returncode  # noqa: S603 - the person's own
    except (OSError, ValueError) as error:
        draft.unlink()
        raise ChatError(f"the editor {command!r} cannot be started: {error}; set EDITOR") from error
    if code != 0:
        draft.unlink()
        raise ChatError(f"the editor {command!r} ended with {code}; nothing was changed")


async def _write(client: Client, path: str, text: str, etag: str | None, draft: Path) -> None:
    """Store the text if the block is still the one that was read."""
    headers = {} if etag is None else {"if-match": etag}
    try:
        await client.fetch("PATCH", path, {"value": text}, headers=headers)
    except RefusedError as error:
        kept = f"your text is in {draft}"
        if error.status == 409:
            raise ChatError(
                f"the block was changed meanwhile, and nothing was overwritten; {kept}"
            ) from error
        raise ChatError(f"the server refuses: {error}; {kept}") from error
    except ChatError:
        print(f"your text is in {draft}", file=sys.stderr)
        raise
