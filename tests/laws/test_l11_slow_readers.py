"""L11: a client that reads nothing costs a bounded megabyte, and nobody else anything."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from statistics import median, quantiles

import anyio
import pytest

from actors.channels import Channel
from actors.events import RunStarted, TextDelta, TextStarted
from gateway.realtime.places import CONNECTION_BYTES
from storage.pool import Pool
from tests.laws.listeners import Listener, listeners, own_time
from tests.serving import Served, listening, serving

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

MEGABYTE = 1024 * 1024
RUN = "run-00000000-0000-4000-8000-000000000001"
CHUNK = "x" * 1000
FLOOD_CHUNKS = 1500  # more than the kernel, the transport and the queue hold together
ROUNDS = 3
TOKENS = 120
TOKEN_SECONDS = 0.05


@asynccontextmanager
async def conversation(pool: Pool) -> AsyncGenerator[tuple[Served, str, str, Channel]]:
    """Yield a server and the channel of a conversation in which an answer is being streamed."""
    async with serving(pool) as served, listening(served.app) as url:
        agent_id = (await served.agent())["id"]
        log = served.host.logs.channel(agent_id, agent_id)
        log.publish(RunStarted(RUN, agent_id, 1, ()), TextStarted(RUN, "message-1"))
        yield served, url, f"conv:{agent_id}", log


def held_by_each(served: Served) -> list[int]:
    """Return the bytes that wait for each connection: in its queue and in its transport."""
    return [c.outbound.waiting_bytes + c.socket.unsent() for c in served.websockets.connections]


async def flood(served: Served, log: Channel, chunks: int) -> int:
    """Stream much, as fast as those who read take it; return the most that any connection held."""
    most = 0
    for number in range(chunks):
        log.publish(TextDelta(RUN, "message-1", CHUNK))
        await asyncio.sleep(0)
        if number % 10 == 0:
            most = max(most, *held_by_each(served))
    return most


async def caught_up(readers: list[Listener], log: Channel) -> None:
    """Wait until everyone has the last event."""
    with anyio.fail_after(120):
        while any(reader.offset < log.position.offset for reader in readers):
            await asyncio.sleep(0.01)


async def hold(pool: Pool, *, stalled: int, others: int) -> None:
    async with (
        conversation(pool) as (served, url, name, log),
        listeners(url, name, others) as readers,
        listeners(url, name, stalled, deaf=True),
    ):
        assert len(served.websockets.connections) == stalled + others
        most = await flood(served, log, FLOOD_CHUNKS)
        await caught_up(readers, log)
        assert most <= MEGABYTE
        assert most > MEGABYTE // 4, "nobody was stalled"
        with anyio.fail_after(60):  # the stalled ones are closed, and then cut off
            while len(served.websockets.connections) > others:
                await asyncio.sleep(0.05)
        budget = served.websockets.services.places.budget
        assert budget.used == others * CONNECTION_BYTES
        assert {reader.text_chars for reader in readers} == {FLOOD_CHUNKS * len(CHUNK)}
        assert not any(reader.disorder or reader.close_code for reader in readers)


@pytest.mark.timeout(300)
async def test_stalled_readers_cost_a_bounded_megabyte_and_the_others_lose_nothing(pool: Pool) -> None:
    await hold(pool, stalled=20, others=80)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_two_hundred_stalled_readers_of_a_thousand(pool: Pool) -> None:
    await hold(pool, stalled=200, others=800)


async def latencies(log: Channel, readers: list[Listener]) -> float:
    """Stream at the pace of a model; return the 99th percentile of seconds until a reader has a token.

    The seconds are ours: those in which other programs had the processor count for nobody.
    """
    for reader in readers:
        reader.arrived.clear()
    sent: dict[int, float] = {}
    for _ in range(TOKENS):
        sent[log.next] = own_time()
        log.publish(TextDelta(RUN, "message-1", "token "))
        await asyncio.sleep(TOKEN_SECONDS)
    await caught_up(readers, log)
    waits = [at - sent[offset] for reader in readers for offset, at in reader.arrived if offset in sent]
    return quantiles(waits, n=100)[98]


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_the_others_do_not_notice_stalled_readers(pool: Pool) -> None:
    """Each round with stalled readers is compared with one in which as many readers are well."""
    well: list[float] = []
    beside: list[float] = []
    async with conversation(pool) as (served, url, name, log), listeners(url, name, 800) as readers:
        for _ in range(ROUNDS):
            async with listeners(url, name, 200):
                well.append(await latencies(log, readers))
            async with listeners(url, name, 200, deaf=True):
                await flood(served, log, 400)  # their buffers are full, and they are not yet given up
                await caught_up(readers, log)
                beside.append(await latencies(log, readers))
    assert median(beside) <= 1.1 * median(well) + 0.001, (well, beside)
