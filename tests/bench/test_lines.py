"""Lines to agents: this server by each of its doors, and the provider as the floor."""

import asyncio
import time

import pytest

from bench.doors import Door, DoorError, Way, Wire
from bench.lines import Heard, Line, line, tabs
from bench.provider import Provider
from gateway.realtime import session
from storage.pool import Pool
from tests.gateway.rest.talking import talking
from tests.serving import listening

DOORS: list[tuple[Wire, Way, str]] = [
    ("websocket", "stream", ""),
    ("letta", "stream", ""),
    ("letta", "blocking", ""),
    ("agui", "stream", "/v1/agui/agents/{agent}"),
]


def test_few_lines_have_websockets_enough_for_what_a_server_takes_of_each() -> None:
    asked_at_most = 1_000  # messages a second, far beyond one process
    for lines in (1, 3, 8, 32, 512):
        assert lines * tabs(lines) * session.LIMITS.commands_per_second >= asked_at_most
    assert tabs(32) == tabs(512) == 1


async def hear(one: Line, text: str) -> Heard:
    heard = Heard()
    async with asyncio.timeout(15):
        await one.say(text, heard)
    return heard


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("wire", "way", "path"), DOORS)
async def test_each_door_of_this_server_says_messages_and_times_the_answers_words(
    pool: Pool, provider: Provider, wire: Wire, way: Way, path: str
) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await served.agent(model="openai/fixed-t5-d0-g0")
        one = line(Door(name="ours", wire=wire, url=url + path, way=way), agent["id"])
        await one.open()
        for number in (1, 2):
            gate, heard = f"rest {number}", Heard()
            await provider.script([{"text": "one two three four five ", "gate": gate, "gate_after": 2}])
            async with asyncio.TaskGroup() as tasks, asyncio.timeout(15):
                tasks.create_task(one.say(f"#{number:010d}# hi", heard))
                await provider.log(requests=1, keep=True)
                while way == "stream" and not heard.words_ns:
                    await asyncio.sleep(0.001)
                opened_ns = time.monotonic_ns()
                await provider.open(gate)
            records = await provider.log(ended=1)
            assert f"#{number:010d}#" in records[0].user_text
            assert len(records[0].wrote_ns) >= 1
            assert heard.first_ns > (records[0].first_ns or 0)
            assert len(heard.words_ns) == 5
            assert heard.words_ns[-1] > opened_ns
            if way == "stream":
                assert heard.words_ns[0] < opened_ns, "words are timed when they come"
            else:
                assert len(set(heard.words_ns)) == 1
        one.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("wire", "way", "path"), DOORS)
async def test_each_door_says_when_the_model_failed(
    pool: Pool, provider: Provider, wire: Wire, way: Way, path: str
) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await served.agent(model="openai/fixed-t2-d0-g0")
        await provider.script([{"status": 400, "body": {"error": {"message": "no"}}}])
        one = line(Door(name="ours", wire=wire, url=url + path, way=way), agent["id"])
        await one.open()
        with pytest.raises(DoorError):
            await hear(one, "hi")
        assert (await hear(one, "again")).first_ns > 0
        one.close()


@pytest.mark.parametrize("way", ["stream", "blocking"])
async def test_the_floor_is_spoken_to_alike(provider: Provider, way: Way) -> None:
    one = line(Door(name="floor", wire="openai", url=provider.base_url, way=way, model="fixed-t4-d0-g0"), "x")
    await one.open()
    assert len((await hear(one, "hi")).words_ns) == 4
    one.close()


async def test_a_connection_that_was_closed_meanwhile_is_opened_again(provider: Provider) -> None:
    one = line(Door(name="floor", wire="openai", url=provider.base_url, model="fixed-t4-d0-g0"), "x")
    await one.open()
    await hear(one, "hi")
    one.close()
    assert (await hear(one, "hi")).first_ns > 0
    one.close()


async def test_a_key_is_shown_as_a_bearer(provider: Provider) -> None:
    one = line(Door(name="x", wire="openai", url=provider.base_url, model="echo", key="sk-mine"), "x")
    await hear(one, "hi there")
    (record,) = await provider.log()
    assert record.headers["authorization"] == "Bearer sk-mine"
    one.close()


async def test_what_waits_when_it_is_cancelled_leaves_the_line_closed(provider: Provider) -> None:
    one = line(Door(name="floor", wire="openai", url=provider.base_url, model="fixed-t1-d30000"), "x")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(one.say("hi", Heard()))
        await provider.log(requests=1, keep=True)
        task.cancel()
    (record,) = await provider.log(ended=1)
    assert record.aborted


@pytest.mark.timeout(60)
async def test_a_websocket_that_is_lost_in_the_middle_of_an_answer_fails_at_once(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await served.agent(model="openai/fixed-t2-d20000-g0")
        one = line(Door(name="ours", wire="websocket", url=url), agent["id"])
        await one.open()
        async with asyncio.TaskGroup() as tasks:
            failure = tasks.create_task(_failure(one))
            await provider.log(requests=1, keep=True)
            await served.websockets.drain(2)
        assert isinstance(failure.result(), ConnectionResetError)


async def _failure(one: Line) -> Exception:
    try:
        await hear(one, "hi")
    except (OSError, DoorError) as error:
        return error
    raise AssertionError("it was lost")
