"""`wakeful agents import`: the agents of an agent file created on a running server."""

import sys
from pathlib import Path

import aiohttp
from msgspec import Struct

from gateway.agent_files.reader import FILE_BYTES
from gateway.chat.client import Client
from gateway.commands.asking import ask, print_json, print_table
from gateway.commands.errors import CommandError
from storage.records import JsonObject

STDIN = "-"


class Wanted(Struct, frozen=True, kw_only=True):
    """What the agents are to have instead of what their file says; None leaves that as it is."""

    name: str | None = None
    model: str | None = None
    embedding: str | None = None
    with_messages: bool = True


class Imported(Struct, frozen=True):
    """What the server made, and what it had to leave out."""

    agent_ids: tuple[str, ...]
    left_out: tuple[str, ...] = ()


class Made(Struct, frozen=True):
    """The agents that were made, as `GET /v1/agents/{id}` has them, and what was left out."""

    agents: tuple[JsonObject, ...]
    left_out: tuple[str, ...]


def import_agents(url: str, api_key: str | None, path: str, wanted: Wanted, *, as_json: bool) -> None:
    """Create the agents of the file at `path` (`-`: of standard input), all or none, and write what was made.

    What the file holds and this server has not is named on standard error.

    Raises:
        CommandError: The file cannot be read, or the server refuses it; nothing was created.
    """
    data = _read(path)

    async def work(client: Client) -> Made:
        imported = await client.ask("POST", "/v1/agents/import", Imported, _form(data, wanted))
        made = [await client.ask("GET", f"/v1/agents/{one}", JsonObject) for one in imported.agent_ids]
        return Made(tuple(made), imported.left_out)

    made = ask(url, api_key, work)
    if as_json:
        print_json(made)
        return
    print_table(("name", "id", "model"), [[one["name"], one["id"], one["model"]] for one in made.agents])
    for what in made.left_out:
        print(f"left out: {what}", file=sys.stderr)


def _read(path: str) -> bytes:
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES:
        raise CommandError(f"{path} is no agent file: those have at most {FILE_BYTES >> 20} MiB")
    return data


def _form(data: bytes, wanted: Wanted) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", data, filename="agent.af", content_type="application/json")
    form.add_field("append_copy_suffix", "false")
    form.add_field("strip_messages", "false" if wanted.with_messages else "true")
    for field, value in (("name", wanted.name), ("model", wanted.model), ("embedding", wanted.embedding)):
        if value is not None:
            form.add_field(field, value)
    return form
