"""Runs as agents told them, recorded from their logs: `python -m tests.gateway.run_recordings` does it again.

Each line of `tests/data/runs.jsonl` is one event in the order of its conversation's log:
`{"case": …, "event": …}`. They are what every projection of the log is tried on.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec
from msgspec import Struct

from actors.channels import Channel
from actors.events import Event, RunFinished, RunStarted
from bench.provider import Provider
from storage import embedded
from storage.migrate import migrate
from storage.pool import connection, open_pool
from tests.gateway.rest.agui_runs import INSERT, RULE, WEATHER, Runner, runner
from tests.gateway.rest.talking import talking
from tests.serving import Served

FILE = Path(__file__).parents[1] / "data" / "runs.jsonl"

THINKS = {"reasoning": "Better note it.", "text": "One moment.", "tool_calls": [INSERT]}
YES = [{"interruptId": "call-1", "status": "resolved", "payload": {"approved": True}}]


class Line(Struct, frozen=True):
    """One event of a recorded case."""

    case: str
    event: Event


def read() -> dict[str, list[Event]]:
    """Return the events of every case, in the order of their log."""
    found: dict[str, list[Event]] = {}
    for line in FILE.read_bytes().splitlines():
        one = msgspec.json.decode(line, type=Line)
        found.setdefault(one.case, []).append(one.event)
    return found


def runs(events: list[Event]) -> list[list[Event]]:
    """Cut a log into what stands between the start and the end of each run."""
    found: list[list[Event]] = []
    running = None
    for event in events:
        if isinstance(event, RunStarted):
            running = event.run_id
            found.append([])
        if running is not None:
            found[-1].append(event)
        if isinstance(event, RunFinished) and event.run_id == running:
            running = None
    return found


# --- recording ------------------------------------------------------------------------------------

Case = Callable[[Served, Provider], Awaitable[None]]


async def _text(served: Served, provider: Provider) -> None:
    await provider.script([{"text": "Hello there, you."}])
    await (await runner(served)).run("hi")


async def _two_runs(served: Served, provider: Provider) -> None:
    await provider.script([{"text": "One."}, {"text": "Two."}])
    agent = await runner(served)
    await agent.run("a")
    await agent.run("b")


async def _tools(served: Served, provider: Provider) -> None:
    await provider.script([THINKS, {"text": "Noted."}])
    await (await runner(served)).run("I like tea")


async def _approval(served: Served, provider: Provider) -> None:
    await provider.script([{"text": "May I?", "tool_calls": [INSERT]}, {"text": "Noted."}])
    agent = await runner(served, tool_rules=[RULE])
    await agent.run("I like tea")
    await agent.run(resume=YES)


async def _client_tool(served: Served, provider: Provider) -> None:
    call = {"name": "weather", "arguments": {"where": "here"}, "id": "call-w"}
    await provider.script([{"tool_calls": [call]}, {"text": "Sunny."}])
    agent = await runner(served)
    await agent.run("outside?", tools=[WEATHER])
    agent.history.append({"id": "r1", "role": "tool", "toolCallId": "call-w", "content": "18 degrees"})
    await agent.run(tools=[WEATHER])


async def _failure(served: Served, provider: Provider) -> None:
    refused = {"status": 400, "body": {"error": {"message": "no"}}}
    await provider.script([{"text": "Half a", "fault": "cut_after", "tokens": 2}, refused])
    await (await runner(served)).run("hi")


async def _cancel(served: Served, provider: Provider) -> None:
    slow = {"reasoning": "Hm.", "text": "a b c d", "gate": "never", "gate_after": 3}
    await provider.script([slow])
    agent = await runner(served)

    async def ask() -> None:
        await agent.run("hi")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await provider.log(requests=1, keep=True)
        await served.json("POST", f"/v1/agents/{agent.agent_id}/messages/cancel")


async def _steering(served: Served, provider: Provider) -> None:
    await provider.script([{**THINKS, "gate": "go"}, {"text": "Both done."}])
    agent = await runner(served)
    await _both(served, provider, agent, "steer")


async def _queue(served: Served, provider: Provider) -> None:
    await provider.script([{"text": "First.", "gate": "go"}, {"text": "Second."}])
    agent = await runner(served)
    await _both(served, provider, agent, "queue")


async def _both(served: Served, provider: Provider, agent: Runner, busy: str) -> None:
    async def ask(words: str, busy: str) -> None:
        await agent.run(words, forwardedProps={"wakeful": {"whenBusy": busy}})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "I like tea", "queue")
        await provider.log(requests=1, keep=True)
        tasks.start_soon(ask, "and coffee", busy)
        async with connection(served.pool) as conn:
            while await conn.fetchval("select count(*) from inbox where state <> 'done'") < 2:
                await anyio.sleep(0.01)
        await provider.open("go")


async def _compaction(served: Served, provider: Provider) -> None:
    sums_up = {"text": "They count.", "match": "<conversation>", "repeat": "forever"}
    await provider.script([sums_up])
    agent = await runner(served, context_window_limit=3000)
    for n in range(3):
        await agent.run(f"say {n} {'word ' * 700}")


CASES: dict[str, Case] = {
    "text": _text,
    "two runs": _two_runs,
    "tools": _tools,
    "approval": _approval,
    "client tool": _client_tool,
    "failure": _failure,
    "cancel": _cancel,
    "steering": _steering,
    "queue": _queue,
    "compaction": _compaction,
}


async def record() -> None:
    """Run every case and write what the logs said."""
    lines: list[Line] = []
    async with _served() as (served, provider):
        for name, case in CASES.items():
            told: list[Line] = []

            def hear(_: Channel | None, __: int, event: Event, *, name: str = name, told: Any = told) -> None:
                told.append(Line(name, event))

            close = served.host.logs.watch_all(hear)
            await case(served, provider)
            close()
            lines += told
            await provider.reset()
    FILE.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


@asynccontextmanager
async def _served() -> AsyncGenerator[tuple[Served, Provider]]:
    with TemporaryDirectory(prefix="wakeful-recording-") as folder:
        await anyio.Path(folder).chmod(0o711)  # Postgres runs as a user of its own
        server = embedded.start(Path(folder) / "server", durability_off=True)
        try:
            await migrate(server.dsn)
            pool = await open_pool(server.dsn)
            with Provider() as provider:
                async with talking(pool, provider) as served:
                    yield served, provider
            await pool.close()
        finally:
            server.stop()


if __name__ == "__main__":
    anyio.run(record)
