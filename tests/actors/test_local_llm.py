"""A real model on this machine: a fact told, remembered by a tool call, and known after a restart.

    WAKEFUL_TEST_GGUF=model.gguf pytest -m local_llm      with the extra `local-llm` installed

Any instruct model of half a billion parameters or more will do; nothing is downloaded.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from actors.events import Event, TextDelta, ToolCallEnded
from actors.llm.catalog import Catalog
from actors.llm.providers import provider_for
from actors.llm.wire import Timeouts, Wire
from bench.provider import Provider
from bench.targets import free_port
from storage.pool import Pool
from tests.actors.worlds import World, finish, world

GGUF = os.environ.get("WAKEFUL_TEST_GGUF", "")
ANSWER_SECONDS = 400.0
pytestmark = [
    pytest.mark.local_llm,
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(not GGUF, reason="WAKEFUL_TEST_GGUF names no model file"),
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None, reason="the extra `local-llm` is not installed"
    ),
]

SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.use_jinja = sys.argv[1], 6144, 1, True
params.port, params.cpuparams.n_threads = int(sys.argv[2]), 1
server = xllamacpp.Server(params)
print("ready", server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A llama.cpp server in a process of its own, which ends with this one."""
    command = [sys.executable, "-c", SERVER, str(Path(GGUF).resolve()), str(free_port())]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True
    )
    assert process.stdout is not None
    try:
        address = next(line.split()[1] for line in process.stdout if line.startswith("ready"))
        yield f"{address.rstrip('/')}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def ask(run: World, agent: str, text: str) -> list[Event]:
    receipt = await run.tell(agent, text)
    with anyio.fail_after(ANSWER_SECONDS):
        ref = run.host.ref(agent)
        return [e.event async for part in ref.follow(receipt.run_id, receipt.conversation_id) for e in part]


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_fact_is_told_remembered_and_known_after_a_restart(pool: Pool, base_url: str) -> None:
    patient = Timeouts(idle=ANSWER_SECONDS, first_token=ANSWER_SECONDS)

    def catalog() -> Catalog:
        # The handle's name decides that it is spoken to in JSON: see `known`.
        return Catalog([provider_for("llamacpp", base_url)], wire=Wire(timeouts=patient))

    nobody = Provider()  # the scripted one, which this test does not start
    async with world(pool, nobody, catalog=catalog()) as run:
        agent = await run.agent(
            model="llamacpp/qwen2.5-coder",
            system="You save what the person tells you in your memory block with the label human.",
            model_settings={"temperature": 0.0, "max_output_tokens": 160},
            tool_rules=({"type": "run_first", "tool_name": "memory_insert", "args": {"label": "human"}},),
        )
        events = await ask(run, agent, "Please remember: my favourite fruit is the mango.")
        for message in await run.messages(agent):
            print(message.role, message.content if message.position else "")
        assert finish(events).status == "completed", finish(events).error
        assert any(isinstance(event, ToolCallEnded) for event in events)
        assert "mango" in (await run.value(agent)).lower()
    async with world(pool, nobody, catalog=catalog(), name="after-restart") as run:
        events = await ask(run, agent, "What is my favourite fruit?")
        print("asked:", said(events))
        assert "mango" in said(events).lower()
