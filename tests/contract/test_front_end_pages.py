"""The examples of the pages about AG-UI, the AI SDK and the methods run as they stand."""

import asyncio
import json
import re
from typing import Any
from uuid import uuid4

import anyio
import msgspec
import pytest
from websockets.asyncio.client import connect

from gateway import docs
from gateway.rpc.methods import METHODS
from storage.pool import Pool
from tests.contract.node import FOLDER, Node
from tests.serving import Served, listening, serving

pytestmark = pytest.mark.timeout(90)

BLOCKS = [{"label": "human", "value": ""}]


def page(name: str) -> str:
    return (docs.FOLDER / f"{name}.md").read_text(encoding="utf-8")


def examples(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(name), re.DOTALL)


def here(example: str, url: str, agent: str) -> str:
    """Return an example with the addresses of this test, and a token."""
    example = example.replace("http://localhost:8283", url).replace("agent-…", agent)
    return example.replace("`Bearer ${token}`", '"Bearer none"')


async def run_js(node: Node, source: str) -> str:
    script = FOLDER / f".example-{uuid4().hex}.mjs"
    script.write_text(source)
    try:
        return await node.run(script.name)
    finally:
        script.unlink()


async def demo(served: Served, *, gated: bool = False) -> str:
    """Create an agent of the demo model, which may have to ask before it notes something."""
    agent = (await served.agent(model="demo/scripted", memory_blocks=BLOCKS, include_base_tools=True))["id"]
    if gated:
        path = f"/v1/agents/{agent}/tools/approval/memory_insert"
        await served.json("PATCH", path, json={"requires_approval": True})
    return agent


async def test_a_run_of_agui_by_curl(pool: Pool) -> None:
    (command,) = examples("agui", "sh")
    async with serving(pool) as served, listening(served.app) as url:
        agent = await demo(served)
        with anyio.fail_after(45):
            process = await asyncio.create_subprocess_shell(
                here(command, url, agent), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
    events = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
    assert (events[0]["type"], events[-1]["type"]) == ("RUN_STARTED", "RUN_FINISHED")
    assert events[0]["runId"] == "r1"


async def test_a_run_of_the_agui_client(pool: Pool, node: Node) -> None:
    first, _ = examples("agui", "js")
    async with serving(pool) as served, listening(served.app) as url:
        said = await run_js(node, here(first, url, await demo(served)))
    assert said.count("I like tea") == 2  # the answer quotes it, and so does the block


async def test_an_interrupt_of_the_agui_client(pool: Pool, node: Node) -> None:
    first, second = examples("agui", "js")
    after = "console.log('now', agent.messages.at(-1).content, agent.pendingInterrupts.length);"
    async with serving(pool) as served, listening(served.app) as url:
        said = await run_js(node, here(first + second + after, url, await demo(served, gated=True)))
    assert re.search(r"^now .*I like tea.* 0$", said, re.MULTILINE), said


# What `useChat` does with a transport, without React: send one message and read the answer.
SEND = """
const parts = [{ type: "text", text: "I like tea" }];
const messages = [{ id: "m1", role: "user", parts }];
const stream = await transport.sendMessages({ trigger: "submit-message", chatId: "default", messages });
for await (const chunk of stream) console.log(JSON.stringify(chunk));
"""


async def test_the_transport_of_the_ai_sdk(pool: Pool, node: Node) -> None:
    (example,) = examples("ai-sdk", "tsx")
    source = example[: example.index("export function")].replace(
        'import { useChat } from "@ai-sdk/react";\n', ""
    )
    async with serving(pool) as served, listening(served.app) as url:
        agent = await demo(served)
        source = here(source.replace('"/v1/ai-sdk', f'"{url}/v1/ai-sdk'), url, agent)
        said = [json.loads(line) for line in (await run_js(node, source + SEND)).splitlines()]
        assert (said[0]["type"], said[-1]["type"]) == ("start", "finish")
        assert "I like tea" in "".join(one["delta"] for one in said if one["type"] == "text-delta")
        for path in re.findall(r"^    GET (\S+)$", page("ai-sdk"), re.MULTILINE):
            where = path.replace("{agent_id}", agent).replace("{chat_id}", "default")
            assert (await served.http.get(where)).status_code in (200, 204), path


async def test_tools_of_the_ai_sdk(pool: Pool, node: Node) -> None:
    (example,) = examples("ai-sdk", "ts")
    source = example[: example.index("useChat(")].replace("new Default", "const transport = new Default")
    async with serving(pool) as served, listening(served.app) as url:
        api = f'const api = "{url}/v1/ai-sdk/agents/{await demo(served)}/chat";\n'
        source = 'import { DefaultChatTransport } from "ai";\n' + api + source
        said = [json.loads(line) for line in (await run_js(node, source + SEND)).splitlines()]
    assert said[-1]["type"] == "finish"


def test_every_method_is_on_its_page_and_every_shape_that_is_named_is_there() -> None:
    text = page("rpc")
    headings = re.findall(r"^## (\S+)$", text, re.MULTILINE)
    assert {method.name for method in METHODS} <= set(headings)
    named = set(re.findall(r"Answers with `(\w+)`, below", text)) | set(re.findall(r"list of `(\w+)`", text))
    assert named <= set(headings)


async def test_a_method_is_called_as_its_page_says(pool: Pool) -> None:
    """The frame at the top of the page, with a method that takes no data."""
    frame = re.findall(r'`(\{"id":…,"rpc":\{.*?\}\})`', page("rpc"))[0]
    command: dict[str, Any] = json.loads(
        frame.replace('"id":…', '"id":2').replace('"method":…', '"method":"agent.list"').replace("{…}", "{}")
    )
    async with (
        serving(pool) as served,
        listening(served.app) as url,
        connect(url.replace("http", "ws") + "/v1/ws") as socket,
    ):
        await socket.send('{"id":1,"connect":{}}\n' + json.dumps(command))
        answers: dict[int, Any] = {}
        with anyio.fail_after(20):
            while 2 not in answers:
                said = map(msgspec.json.decode, str(await socket.recv()).splitlines())
                answers |= {one.get("id"): one for one in said}
    assert answers[2]["rpc"]["data"] == {"agents": [], "more": False}
