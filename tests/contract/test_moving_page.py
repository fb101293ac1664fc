"""The page for those who come from a Letta server: its programs run, and what it says of the server is so."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from gateway import docs
from gateway.config import Settings
from storage.pool import Pool
from tests.gateway.processes import ROOT
from tests.serving import Served, listening, serving

pytestmark = pytest.mark.timeout(90)

PAGE = (docs.FOLDER / "moving.md").read_text(encoding="utf-8")
NOT_HERE = re.findall(r"`(POST|PUT) (/v1/\S+)`", PAGE[PAGE.index("| not here |") : PAGE.index("Lists of")])
INSTEAD = {("POST", "/v1/archives/"), ("POST", "/v1/agents/{agent_id}/messages/async")}
FIELDS: dict[str, Any] = {
    "enable_sleeptime": True,
    "secrets": {"A": "b"},
    "tool_exec_environment_variables": {"A": "b"},
    "identity_ids": ["identity-00000000-0000-4000-8000-000000000000"],
    "folder_ids": ["source-00000000-0000-4000-8000-000000000000"],
    "from_template": "t",
}


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def here(example: str, url: str, agent: str) -> str:
    """Return an example with the addresses of this test; the old server is the new one."""
    example = example.replace("http://old-server:8283", url).replace("http://127.0.0.1:8283", url)
    return example.replace("agent-…", agent)


async def agent_with_a_past(served: Served) -> str:
    """Create an agent that was told something, and keeps something; return its id."""
    blocks = [{"label": "human", "value": "Likes rye."}]
    agent = (await served.agent(model="demo/scripted", memory_blocks=blocks, tags=["bakery"]))["id"]
    body = {"messages": [{"role": "user", "content": "I bake on Sundays."}]}
    await served.json("POST", f"/v1/agents/{agent}/messages", json=body)
    kept = {"text": "The oven is old.", "tags": ["oven"]}
    await served.json("POST", f"/v1/agents/{agent}/archival-memory", json=kept)
    return agent


async def execute(*command: str, cwd: Path, env: dict[str, str], typed: str = "") -> str:
    """Run a program, which must succeed, and return what it wrote."""
    with anyio.fail_after(60):
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate(typed.encode())
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_the_programs_run_and_bring_agents_over(pool: Pool, tmp_path: Path) -> None:
    lists, moves = examples("python")
    async with serving(pool) as served, listening(served.app) as url:
        agent = await agent_with_a_past(served)
        listed = await execute(sys.executable, "-c", here(lists, url, agent), cwd=tmp_path, env={})
        assert listed == "test demo/scripted\n"
        moved = await execute(sys.executable, "-c", here(moves, url, agent), cwd=tmp_path, env={})
        name, new, *rest = moved.split()
        assert (name, rest) == ("test", ["left", "out:", "[]"])
        made = await served.json("GET", f"/v1/agents/{new}?include=agent.tags&include=agent.blocks")
        assert (made["name"], made["tags"]) == ("test", ["bakery"])
        (human,) = [block["value"] for block in made["blocks"] if block["label"] == "human"]
        assert "Likes rye." in human
        said = await served.json("GET", f"/v1/agents/{new}/messages?limit=100")
        assert "I bake on Sundays." in [one.get("content") for one in said]
        kept = await served.json("GET", f"/v1/agents/{new}/archival-memory")
        assert [(one["text"], one["tags"]) for one in kept] == [("The oven is old.", ["oven"])]


async def test_the_commands_run(pool: Pool, tmp_path: Path) -> None:
    (commands,) = examples("sh")
    wakeful = tmp_path / "wakeful"
    wakeful.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway.cli "$@"\n')
    wakeful.chmod(0o755)
    async with serving(pool) as served, listening(served.app) as url:
        agent = (await served.agent(name="sam", model="demo/scripted"))["id"]
        script = here(commands, url, agent)
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WAKEFUL_PORT": url.rpartition(":")[2]}
        # Both agents are here, and both are called sam: the chat is told which.
        imported, chat = script.removesuffix("wakeful chat sam\n"), "wakeful chat"
        assert imported != script
        out = await execute("sh", "-ec", imported, cwd=tmp_path, env=env)
        new = out.split("\t")[1]
        assert new != agent
        told = await execute("sh", "-ec", f"{chat} {new}", cwd=tmp_path, env=env, typed="Hello.\n")
        assert told


async def test_what_is_not_here_says_what_to_do_instead(pool: Pool) -> None:
    refused = [one for one in NOT_HERE if one not in INSTEAD]
    assert len(refused) > 8
    async with serving(pool) as served:
        agent = (await served.agent(model="demo/scripted"))["id"]
        for method, path in refused:
            body = await served.json(method, path.replace("{agent_id}", agent), json={}, status=501)
            assert " is not served here: " in body["error"]["message"], path
        for path in ("/v1/folders/", "/v1/mcp-servers/", "/v1/identities/", "/v1/groups/", "/v1/providers/"):
            assert await served.json("GET", path) == []
        for field, value in FIELDS.items():
            assert f"`{field}`" in PAGE
            body = await served.json("POST", "/v1/agents/", json={field: value}, status=501)
            assert field in body["error"]["message"]
        await served.json("POST", "/v1/agents/", json={"agent_type": "react_agent"}, status=501)
        for kind in ("letta_v1_agent", "memgpt_v2_agent", "memgpt_agent", "sleeptime_agent"):
            assert f"`{kind}`" in PAGE
            assert (await served.agent(model="demo/scripted", agent_type=kind))["agent_type"] == kind


async def test_a_file_with_a_model_that_is_not_here_creates_nothing(pool: Pool) -> None:
    file = b'{"agents": [{"name": "sam", "model": "nobody/x", "messages": []}]}'
    async with serving(pool) as served:
        send = {"files": {"file": file}, "headers": {"x-requested-with": "test"}}
        answer = await served.http.post("/v1/agents/import", **send)
        assert answer.status_code == 404
        assert await served.json("GET", "/v1/agents/") == []
        answer = await served.http.post("/v1/agents/import", data={"model": "demo/scripted"}, **send)
        assert answer.status_code == 200


def test_every_variable_and_route_that_is_named_exists() -> None:
    settings = (docs.FOLDER / "settings.md").read_text(encoding="utf-8")
    routes = (docs.FOLDER / "routes.md").read_text(encoding="utf-8")
    for name in ("LETTA_SERVER_PASSWORD", "LETTA_DEFAULT_LLM_HANDLE", "DATABASE_URL"):
        assert f"`{name}`" in PAGE
        assert f"`{name}`" in settings
    served = {(method, path) for method, path in re.findall(r"`(GET|POST) (/v1/\S+)`", PAGE)} - set(NOT_HERE)
    for method, path in served | INSTEAD:
        assert f"| {method} | `{path}` |" in routes, path
    assert Settings().port == 8283
