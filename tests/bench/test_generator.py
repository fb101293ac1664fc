"""The load generator, against the scripted provider and against a server that stalls."""

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import msgspec
import pytest

from bench import arrivals, generator
from bench.arrivals import Arrivals
from bench.doors import Door
from bench.generator import NO_LINE, UNFINISHED, Order
from bench.histogram import latency
from bench.provider import Provider
from bench.targets import free_port

STALL_S = 0.8
ANSWER = b"".join(
    (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 48\r\n\r\n",
        msgspec.json.encode({"choices": [{"message": {"content": "one two "}}]}).ljust(48),
    )
)


def floor(provider: Provider, model: str = "fixed-t3-d0-g0", **more: str) -> Door:
    return Door(name="floor", wire="openai", url=provider.base_url, model=model, **more)  # type: ignore[arg-type]


def names(count: int) -> list[str]:
    return [f"agent-{index}" for index in range(count)]


@contextmanager
def stalling(first_s: float) -> Generator[str]:
    """A server that answers at once, but for the `STALL_S` from `first_s` after the first request on.

    What comes in that time is answered when it is over.
    """
    ready, ended = threading.Event(), threading.Event()
    root: list[str] = []

    async def serve() -> None:
        begun: list[float] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(size)
                    begun.append(time.monotonic())
                    if 0 <= begun[-1] - begun[0] - first_s < STALL_S:
                        await asyncio.sleep(begun[0] + first_s + STALL_S - time.monotonic())
                    writer.write(ANSWER)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        root.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ready.set()
        while not ended.is_set():
            await asyncio.sleep(0.05)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield root[0]
    finally:
        ended.set()
        thread.join()


def waited_ms(order: Order) -> float:
    """What 90 % of the messages at most waited."""
    found = latency(said.ended_ns - said.meant_ns for said in generator.run(order).said if not said.failure)
    assert found is not None
    return found.p90


@pytest.mark.alone
@pytest.mark.timeout(60)
def test_a_server_that_stalls_is_seen_to_stall_in_the_open_loop_and_not_in_the_closed() -> None:
    """Of two seconds it stalls for 0.8: of ten people who came then four waited, not one of hundreds."""
    with stalling(0.4) as url:
        door = Door(name="stalling", wire="openai", url=url, way="blocking")
        pace = Arrivals(rate=50, seconds=2, kind="constant")
        assert waited_ms(Order(door=door, agents=names(200), open_loop=pace)) > STALL_S * 1000 / 2
    with stalling(0.4) as url:
        door = Door(name="stalling", wire="openai", url=url, way="blocking")
        assert waited_ms(Order(door=door, agents=names(1), seconds=2)) < STALL_S * 1000 / 2


@pytest.mark.timeout(60)
def test_messages_of_the_open_loop_are_meant_for_their_times_whatever_became_of_others(
    provider: Provider,
) -> None:
    pace = Arrivals(rate=100, seconds=1, seed=3)
    given = generator.run(Order(door=floor(provider, "fixed-t3-d300-g0"), agents=names(100), open_loop=pace))
    assert [said.failure for said in given.said] == [""] * len(given.said)
    meant = sorted(said.meant_ns - given.started_ns for said in given.said)
    assert meant == [round(after * 1e9) for after in arrivals.times(pace)]
    for said in given.said:
        assert said.meant_ns <= said.sent_ns < said.first_ns <= said.ended_ns


@pytest.mark.timeout(60)
async def test_a_message_that_finds_no_line_free_counts_as_failed(provider: Provider) -> None:
    pace = Arrivals(rate=50, seconds=1, kind="constant")
    order = Order(door=floor(provider, "fixed-t3-d30000-g0"), agents=names(3), open_loop=pace, grace_s=0.5)
    given = await asyncio.to_thread(generator.run, order)
    failures = [said.failure for said in sorted(given.said, key=lambda said: said.number)]
    assert sorted(failures) == sorted([UNFINISHED] * 3 + [NO_LINE] * 47)
    assert [said.sent_ns > 0 for said in given.said if said.failure == NO_LINE] == [False] * 47
    assert len(await provider.log(requests=3)) == 3


@pytest.mark.timeout(60)
async def test_words_are_timed_one_by_one(provider: Provider) -> None:
    door = floor(provider, "fixed-t8-d50-g200")
    pace = Arrivals(rate=1, seconds=1, kind="constant")
    order = Order(door=door, agents=names(1), open_loop=pace)
    (said,) = (await asyncio.to_thread(generator.run, order)).said
    (record,) = await provider.log(ended=1)
    assert record.first_ns is not None
    assert len(said.words_ns) == len(record.wrote_ns) == 8
    assert said.first_ns == said.words_ns[0]
    assert all(wrote < seen for wrote, seen in zip(record.wrote_ns, said.words_ns, strict=True))
    due_ns = [record.arrived_ns + (50 + 200 * place) * 1e6 for place in range(8)]
    # However late a machine writes one, so that the next follows at once, no word is early.
    assert all(wrote > due - 1e6 for wrote, due in zip(record.wrote_ns, due_ns, strict=True))
    assert said.words_ns[0] < record.wrote_ns[-1]


@pytest.mark.timeout(60)
async def test_in_the_closed_loop_as_many_are_under_way_as_asked_and_agents_take_turns(
    provider: Provider,
) -> None:
    door = floor(provider, "fixed-t2-d20-g0", way="blocking")
    order = Order(door=door, agents=names(6), at_once=2, seconds=0.5, least_rounds=4, most_s=20.0)
    given = await asyncio.to_thread(generator.run, order)
    records = await provider.log()
    assert len(given.said) == len(records) > 6
    changes = sorted([(r.arrived_ns, 1) for r in records] + [(r.ended_ns or 0, -1) for r in records])
    under_way = 0
    for _, change in changes:
        under_way += change
        assert under_way <= 2


@pytest.mark.timeout(60)
async def test_a_closed_loop_goes_on_until_its_rounds_are_whole(provider: Provider) -> None:
    """An answer takes longer than the window: it is measured all the same, by rounds of all lines."""
    door = floor(provider, "fixed-t2-d400-g0", way="blocking")
    order = Order(
        door=door, agents=names(4), seconds=0.3, warm_s=0.1, least_rounds=2, most_s=20.0, grace_s=10.0
    )
    given = await asyncio.to_thread(generator.run, order)
    assert given.window_ns is not None
    began, ended = given.window_ns
    assert sum(began < said.ended_ns <= ended for said in given.said) == 8
    assert ended - began >= 0.7e9


@pytest.mark.timeout(60)
async def test_what_is_said_while_it_warms_up_is_left_out(provider: Provider) -> None:
    pace = Arrivals(rate=20, seconds=1, kind="constant")
    order = Order(door=floor(provider), agents=names(20), open_loop=pace, warm_s=0.5)
    given = await asyncio.to_thread(generator.run, order)
    assert len(given.said) == 10
    assert all(said.meant_ns >= given.started_ns for said in given.said)
    assert len(await provider.log()) == 20


@pytest.mark.timeout(60)
async def test_failures_are_told_apart_and_the_line_goes_on(provider: Provider) -> None:
    await provider.script([{"status": 503}, {"fault": "cut_after", "tokens": 1}, {"text": "", "match": "#"}])
    order = Order(door=floor(provider), agents=names(1), seconds=0.1, least_rounds=4, most_s=20.0)
    given = await asyncio.to_thread(generator.run, order)
    failures = [said.failure for said in sorted(given.said, key=lambda said: said.number)]
    assert failures[0].startswith("status 503: {")
    assert "closed" in failures[1]
    assert failures[2] == "an answer without text"
    assert len(failures) > 3
    assert set(failures[3:]) == {""}


@pytest.mark.timeout(60)
def test_a_server_that_is_not_there_raises(capfd: pytest.CaptureFixture[str]) -> None:
    door = Door(name="none", wire="openai", url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RuntimeError, match="load generator failed"):
        generator.run(Order(door=door, agents=names(1), seconds=1))
    assert "ConnectionRefusedError" in capfd.readouterr().err
