"""What the SDK offers and this server has none of: lists are empty, the rest is refused by name."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import letta_client
import pytest
from letta_client import APIStatusError, Letta, NotFoundError

from gateway import absent
from gateway.rest.routes import ROUTES
from gateway.router import Router
from storage.pool import Pool
from tests.contract.sdk import with_sdk

RESOURCES = Path(letta_client.__file__).parent / "resources"
CALL = re.compile(r'self\._(get|post|patch|put|delete|get_api_list)\(\s*(?:path_template\(\s*)?"(/v1/[^"]*)"')
UUID = "00000000-0000-4000-8000-000000000000"

Call = Callable[[Letta, str], Any]

EMPTY: dict[str, Call] = {
    "folders": lambda c, _: list(c.folders.list()),
    "mcp_servers": lambda c, _: c.mcp_servers.list(),
    "agents.folders": lambda c, agent: list(c.agents.folders.list(agent)),
    "agents.files": lambda c, agent: list(c.agents.files.list(agent)),
    "messages of a group": lambda c, agent: c.agents.messages.list(agent, group_id=f"group-{UUID}").items,
    "messages of a group, in a conversation": lambda c, agent: (
        c.conversations.messages.list("default", agent_id=agent, group_id=f"group-{UUID}").items
    ),
}

REFUSED: dict[str, Call] = {
    "client.tools.create": lambda c, _: c.tools.create(source_code="def f(): pass"),
    "client.tools.upsert": lambda c, _: c.tools.upsert(source_code="def f(): pass"),
    "client.tools.delete": lambda c, _: c.tools.delete(f"tool-{UUID}"),
    "client.folders.create": lambda c, _: c.folders.create(name="x"),
    "client.folders.retrieve": lambda c, _: c.folders.retrieve(f"source-{UUID}"),
    "client.agents.folders.attach": lambda c, agent: c.agents.folders.attach(
        f"source-{UUID}", agent_id=agent
    ),
    "client.agents.identities.attach": lambda c, agent: c.agents.identities.attach("x", agent_id=agent),
    "client.mcp_servers.create": lambda c, _: c.mcp_servers.create(
        server_name="x", config={"mcp_server_type": "sse", "server_url": "http://x"}
    ),
    "client.mcp_servers.tools.list": lambda c, _: c.mcp_servers.tools.list("x"),
    "client.runs.trace.retrieve": lambda c, _: c.runs.trace.retrieve(f"run-{UUID}"),
    "client.templates.create": lambda c, agent: c.templates.create(agent_id=agent, type="agent"),
    "client.agents.schedule.list": lambda c, agent: c.agents.schedule.list(agent),
    "client.access_tokens.list": lambda c, _: c.access_tokens.list(),
}

if hasattr(Letta, "environments"):  # since 1.12.1
    REFUSED["client.environments.list"] = lambda c, _: c.environments.list()


def sdk_routes() -> Iterator[tuple[str, str]]:
    """Yield every method and path that the installed SDK calls."""
    for file in sorted(RESOURCES.rglob("*.py")):
        for verb, path in CALL.findall(file.read_text(encoding="utf-8")):
            yield "GET" if verb == "get_api_list" else verb.upper(), path


def test_every_route_of_the_sdk_is_served_or_refused_by_name() -> None:
    known = Router[Any]([*ROUTES, *absent.ABSENT])
    routes = sorted(set(sdk_routes()))
    assert len(routes) >= 125  # 1.12.1 has two more than 1.12.0
    for method, path in routes:
        known.find(method, re.sub(r"{\w+}", "x", path).encode())


async def test_what_there_is_none_of_lists_as_empty(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(model="demo/scripted")
        for name, call in EMPTY.items():
            assert call(client, agent.id) == [], name
        with pytest.raises(NotFoundError, match="Agent not found"):
            client.agents.folders.list(f"agent-{UUID}")

    await with_sdk(pool, scenario)


async def test_what_is_not_there_is_refused_by_its_name_and_says_what_to_do(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(model="demo/scripted")
        for name, call in REFUSED.items():
            with pytest.raises(APIStatusError) as refused:
                call(client, agent.id)
            body: Any = refused.value.body
            assert (refused.value.status_code, body["error"]["type"]) == (501, "not_supported"), name
            assert body["detail"].startswith(f"{name} is not served here: "), body["detail"]
            assert refused.value.response.headers["x-should-retry"] == "false"

    await with_sdk(pool, scenario)
