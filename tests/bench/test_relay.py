"""The relay does what a minimal server must, and no more."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from bench import load, phases, targets
from bench.load import Job, Slot
from bench.provider import Provider
from bench.targets import Process, Relay, environment, free_port


@pytest.fixture
def relay(empty_dsn: str, provider: Provider, tmp_path: Path) -> Iterator[Relay]:
    made = Relay(tmp_path, provider)
    made.port = free_port()
    command = [sys.executable, "-m", "bench.relay", "--dsn", empty_dsn]
    command += ["--provider", provider.base_url, "--port", str(made.port)]
    process = Process(command, environment(), tmp_path / "log")
    process.wait_ready(made.port, "/")
    yield made
    process.stop()


async def rows(dsn: str) -> list[tuple[int, str, str]]:
    conn = await asyncpg.connect(dsn)
    try:
        found = await conn.fetch("select position, role, content from messages order by agent_id, position")
    finally:
        await conn.close()
    return [(row[0], row[1], msgspec.json.decode(row[2])["content"]) for row in found]


async def test_a_message_is_stored_answered_and_the_answer_stored(
    relay: Relay, provider: Provider, empty_dsn: str
) -> None:
    await provider.script([{"text": "first answer"}, {"text": "second answer"}])
    (agent,) = await asyncio.to_thread(targets.create_agents, relay, 1)
    job = Job(port=relay.port, slots=[Slot([relay.message(agent)] * 2)], keep=True)
    outcome = await asyncio.to_thread(load.run, job)
    assert "first answer" in outcome.bodies[0]
    stored = await rows(empty_dsn)
    assert [(place, role) for place, role, _ in stored] == [
        (0, "user"),
        (1, "assistant"),
        (2, "user"),
        (3, "assistant"),
    ]
    assert stored[3][2] == "second answer"
    assert [record.messages for record in await provider.log()] == [1, 3]


async def test_a_stream_carries_each_token(relay: Relay, provider: Provider) -> None:
    (agent,) = await asyncio.to_thread(targets.create_agents, relay, 1, "fixed-t9-d0-g2")
    job = Job(port=relay.port, slots=[Slot([relay.message(agent, stream=True)])])
    outcome = await asyncio.to_thread(load.run, job)
    targets.check(outcome)
    assert outcome.timings[0].tokens == 9


async def test_it_tells_the_phases_of_its_messages_once(relay: Relay, provider: Provider) -> None:
    (agent,) = await asyncio.to_thread(targets.create_agents, relay, 1, "fixed-t5-d40-g10")
    for stream in (False, True):
        asked = relay.message(agent, stream=stream)
        await asyncio.to_thread(load.run, Job(port=relay.port, slots=[Slot([asked] * 3)]))
        split = await asyncio.to_thread(phases.of_relay, relay)
        assert split["runs"] == 3
        assert split["first token"] >= 40
        assert split["stream"] >= 30
        assert 0 < split["accept"] < 40
        assert 0 < split["checkpoint"] < 40
    assert await asyncio.to_thread(phases.of_relay, relay) == {}


async def test_history_goes_to_the_provider(relay: Relay, provider: Provider) -> None:
    (agent,) = await asyncio.to_thread(relay.with_history, 1, 50)
    await asyncio.to_thread(load.run, Job(port=relay.port, slots=[Slot([relay.message(agent)])]))
    assert [record.messages for record in await provider.log()] == [51]
