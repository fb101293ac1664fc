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
    assert len(examples("js")) == 4
    assert len(examples("python")) == 3


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


@pytest.mark.parametrize("language", ["js", "python"])
async def test_the_examples_that_answer_what_is_asked_run(pool: Pool, node: Node, language: str) -> None:
    async with serving(pool) as served, listening(served.app) as url:
        blocks = [{"label": "human", "value": ""}]
        agent = (await served.agent(model="demo/scripted", memory_blocks=blocks))["id"]
        gate = f"/v1/agents/{agent}/tools/approval/memory_insert"
        await served.json("PATCH", gate, json={"requires_approval": True})
        source = here(examples(language)[-1], url, agent)
        said = {"messages": [{"role": "user", "content": "I like tea."}]}
        script = FOLDER / f".example-{uuid4().hex}.mjs"
        if language == "js":
            script.write_text(BEFORE + source + 'console.log("ready");\n')
            command = ["node", str(script)]
        else:
            begin = "        async for notice in notices:\n"
            source = source.replace(begin, f'        print("ready", flush=True)\n{begin}')
            command = [sys.executable, "-c", source]
        try:
            with anyio.fail_after(60):
                process = await asyncio.create_subprocess_exec(
                    *command, cwd=FOLDER if language == "js" else None, stdout=asyncio.subprocess.PIPE
                )
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
                await served.json("POST", f"/v1/agents/{agent}/messages", json=said)
                out, _ = await process.communicate()
        finally:
            script.unlink(missing_ok=True)
        assert process.returncode == 0
        assert b"memory_insert" in out
        path = f"/v1/agents/{agent}/messages?limit=10"
        with anyio.fail_after(20):  # the program ends when it has answered, the run goes on
            while '"assistant_message"' not in (await served.http.get(path)).text:
                await anyio.sleep(0.05)
        block = await served.http.get(f"/v1/agents/{agent}/core-memory/blocks/human")
        assert "I like tea." in block.text


async def _answered(http: httpx.AsyncClient, agent: str) -> None:
    listed = await http.get(f"/v1/agents/{agent}/messages?limit=10")
    kinds = [message["message_type"] for message in listed.json()]
    assert "user_message" in kinds
    assert "assistant_message" in kinds
