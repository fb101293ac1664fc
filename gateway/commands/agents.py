"""`wakeful agents`: the agents of a running server listed, created and shown."""

from typing import Any
from urllib.parse import quote

from msgspec import Struct

from gateway.chat.chat import BLOCKS
from gateway.chat.client import Client, RefusedError
from gateway.commands.asking import ask, print_heading, print_json, print_table, print_text
from storage.records import JsonObject

RUNS_SHOWN = 5
_LINES_OF_CONTEXT = (
    ("system", "system prompt"),
    ("core_memory", "memory blocks"),
    ("summary_memory", "summary"),
    ("functions_definitions", "tools"),
    ("tool_usage_rules", "tool rules"),
    ("messages", "messages"),
)


class NewAgent(Struct, frozen=True, kw_only=True):
    """What an agent is to be created with; None leaves it to the server."""

    name: str | None = None
    model: str | None = None
    persona: str | None = None
    human: str | None = None
    agent_type: str | None = None


class Shown(Struct, frozen=True, kw_only=True):
    """An agent as `show` tells it. `context` is None where the server cannot say."""

    agent: JsonObject
    context: JsonObject | None
    runs: list[JsonObject]


def list_agents(url: str, api_key: str | None, *, as_json: bool) -> None:
    """Write every agent of the server, the newest first.

    Raises:
        ChatError: The server cannot be asked.
    """
    found = ask(url, api_key, _every_agent)
    if as_json:
        print_json(found)
        return
    rows = [
        [a["name"], a["id"], a["model"], _when(a["updated_at"]), a["last_stop_reason"] or ""] for a in found
    ]
    print_table(("name", "id", "model", "changed", "last stop"), rows)


async def _every_agent(client: Client) -> list[JsonObject]:
    return [agent async for page in client.pages("/v1/agents/") for agent in page]


def create_agent(url: str, api_key: str | None, wanted: NewAgent, *, as_json: bool) -> None:
    """Create an agent and write its name and id.

    Raises:
        ChatError: The server cannot be asked, or refuses.
    """
    texts = {"persona": wanted.persona, "human": wanted.human}
    blocks = {label: BLOCKS[label] if text is None else text for label, text in texts.items()}
    body: JsonObject = {
        "memory_blocks": [{"label": label, "value": value} for label, value in blocks.items()]
    }
    given = {"name": wanted.name, "model": wanted.model, "agent_type": wanted.agent_type}
    body |= {field: value for field, value in given.items() if value is not None}

    async def create(client: Client) -> JsonObject:
        return await client.ask("POST", "/v1/agents/", JsonObject, body)

    made = ask(url, api_key, create)
    if as_json:
        print_json(made)
    else:
        print_table(("name", "id", "model"), [[made["name"], made["id"], made["model"]]])


def show_agent(url: str, api_key: str | None, wanted: str, *, as_json: bool) -> None:
    """Write what is known about an agent.

    Raises:
        ChatError: The server cannot be asked, or there is no such agent.
    """

    async def read(client: Client) -> Shown:
        agent_id = (await client.find_agent(wanted)).id
        return Shown(
            agent=await client.ask("GET", f"/v1/agents/{agent_id}", JsonObject),
            context=await _context(client, agent_id),
            runs=await client.ask(
                "GET", f"/v1/runs/?agent_id={quote(agent_id)}&limit={RUNS_SHOWN}&order=desc", list[JsonObject]
            ),
        )

    shown = ask(url, api_key, read)
    if as_json:
        print_json(shown)
    else:
        _write(shown)


async def _context(client: Client, agent_id: str) -> JsonObject | None:
    """Return what fills the agent's window; None from a server that has no such route."""
    try:
        return await client.ask("GET", f"/v1/agents/{agent_id}/context", JsonObject)
    except RefusedError as error:
        if error.status != 404:
            raise
        return None


def _write(shown: Shown) -> None:
    agent = shown.agent
    print_heading(f"{agent['name']}  {agent['id']}")
    settings: dict[str, Any] = {
        "model": agent["model"],
        "window": f"{agent['llm_config']['context_window']} tokens",
        "type": agent["agent_type"],
        "embedding": agent["embedding"] or "the server's default",
        "tools": ", ".join(tool["name"] for tool in agent["tools"]) or "none",
        "tags": ", ".join(agent["tags"]) or "none",
        "timezone": agent["timezone"],
        "created": _when(agent["created_at"]),
        "last stop": agent["last_stop_reason"] or "never ran",
    }
    if agent["description"]:
        settings["about"] = agent["description"]
    print_table(("setting", "value"), [[name, str(value)] for name, value in settings.items()])
    for block in agent["blocks"]:
        write_block(block)
    if shown.context is not None:
        _write_context(shown.context)
    if shown.runs:
        print_text("")
        print_heading("last runs")
        rows = [[_when(r["created_at"]), r["status"], r["stop_reason"] or "", r["id"]] for r in shown.runs]
        print_table(("when", "status", "stop", "id"), rows)


def write_block(block: JsonObject) -> None:
    """Write a memory block under its label."""
    read_only = ", read-only" if block["read_only"] else ""
    print_text("")
    print_heading(f"{block['label']}  ({len(block['value'])} of {block['limit']} characters{read_only})")
    if block["value"]:
        print_text(block["value"])


def _write_context(context: JsonObject) -> None:
    used, most = context["context_window_size_current"], context["context_window_size_max"]
    print_text("")
    print_heading(f"context  ({used} of {most} tokens)")
    rows = [
        [name, f"{tokens} tokens"]
        for field, name in _LINES_OF_CONTEXT
        if (tokens := context.get(f"num_tokens_{field}"))
    ]
    for field, name in (("num_recall_memory", "recall"), ("num_archival_memory", "archival")):
        if context.get(field) is not None:
            rows.append([name, f"{context[field]} kept"])
    print_table(("part", "size"), rows)


def _when(instant: str | None) -> str:
    """Return an instant to the minute, in UTC as the server says it."""
    return "" if instant is None else instant[:16].replace("T", " ")
