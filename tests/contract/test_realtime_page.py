"""Every example of the page about the websocket runs as it stands, against a server with the demo model."""

import asyncio
import re
import sys
from uuid import uuid4

import anyio
import httpx
import pytest

from gateway import docs
from storage.pool import Pool
from tests.contract.node import FOLDER, Node
from tests.serving import listening, serving

pytestmark = pytest.mark.timeout(90)

PAGE = (docs.FOLDER / "realtime.md").read_text(encoding="utf-8")
# Node below 22 has no WebSocket of its own, and loads no modules from the network.
BEFORE = 'import WebSocket from "ws";\nglobalThis.WebSocket ??= WebSocket;\n'


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def here(example: str, url: str, agent: str) -> str:
    """Return an example with the addresses of this test."""
    example = example.replace("http://127.0.0.1:8283/static/wakeful.js", "./wakeful_module.mjs")
    host = url.removeprefix("http://")
    return example.replace("127.0.0.1:8283", host).replace("agent-…", agent)


def test_there_are_examples_of_every_client() -> None:
    assert len(examples("js")) == 3
    assert len(examples("python")) == 2


@pytest.mark.parametrize("number", range(3))
async def test_the_examples_in_javascript_run(pool: Pool, node: Node, number: int) -> None:
    script = FOLDER / f".example-{uuid4().hex}.mjs"
    async with serving(pool) as served, listening(served.app) as url:
        agent = (await served.agent(model="demo/scripted"))["id"]
        script.write_text(BEFORE + here(examples("js")[number], url, agent))
        try:
            said = await node.run(script.name)
        finally:
            script.unlink()
        assert said.strip()
        await _answered(served.http, agent)


@pytest.mark.parametrize("number", range(2))
async def test_the_examples_in_python_run(pool: Pool, number: int) -> None:
    async with serving(pool) as served, listening(served.app) as url:
        agent = (await served.agent(model="demo/scripted"))["id"]
        source = here(examples("python")[number], url, agent)
        with anyio.fail_after(45):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert out.decode().strip()
        await _answered(served.http, agent)


async def _answered(http: httpx.AsyncClient, agent: str) -> None:
    listed = await http.get(f"/v1/agents/{agent}/messages?limit=10")
    kinds = [message["message_type"] for message in listed.json()]
    assert "user_message" in kinds
    assert "assistant_message" in kinds
