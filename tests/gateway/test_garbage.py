"""What is left for the garbage collector, which is nothing of a message, and when it looks."""

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest

from bench.provider import Provider
from gateway import garbage
from gateway.garbage import Keeper
from storage.pool import Pool
from tests.gateway.clocks import ManualClock, manual_clock
from tests.gateway.rest.agui_runs import Runner
from tests.gateway.rest.talking import talking
from tests.serving import listening

MODEL = "openai/fixed-t20-d0-g1"  # twenty tokens, one every millisecond: they come one by one
OURS = ("actors.", "gateway.", "storage.", "aiohttp.", "uvicorn.", "_asyncio.")


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with manual_clock() as mine:
        yield mine


@pytest.fixture
def collector() -> Iterator[None]:
    """The process's collector as the server has it, and afterwards as it was."""
    before = gc.get_threshold()
    gc.collect()
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.enable()
        gc.collect()


@pytest.fixture
def keeper(clock: ManualClock, collector: None) -> Keeper:
    return garbage.started()


def tied() -> Counter[str]:
    """Collect, and return the types of ours that were tied in circles."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    names = [f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage]
    gc.garbage.clear()
    return Counter(name for name in names if name.startswith(OURS))


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("way", ["blocking", "stream", "ag-ui"])
async def test_a_message_leaves_nothing_to_the_collector(way: str, pool: Pool, provider: Provider) -> None:
    """Neither its turn nor its answer, nor the connection that it came over."""
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = Runner(served, (await served.agent(model=MODEL))["id"])
        path, body = _request(way, agent)
        await _ask(url, path, body())  # what is made once is made
        gc.collect()
        gc.disable()
        for _ in range(3):
            await _ask(url, path, body())
        assert tied() == Counter()


def _request(way: str, agent: Runner) -> tuple[str, Callable[[], dict[str, Any]]]:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    if way == "ag-ui":
        return agent.path, lambda: agent.body("hi")
    if way == "stream":
        said |= {"streaming": True, "stream_tokens": True}
    return f"/v1/agents/{agent.agent_id}/messages", lambda: said


async def _ask(url: str, path: str, body: object) -> None:
    """Ask over a connection of its own, and wait until the server has let it go."""
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        response = await client.post(path, json=body)
        assert response.status_code == 200, response.text
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


def test_nothing_is_looked_for_while_the_server_starts(collector: None) -> None:
    thresholds = gc.get_threshold()
    with garbage.starting():
        assert not gc.isenabled()
        garbage.started()
        assert gc.isenabled()
        assert gc.get_threshold() == garbage.THRESHOLDS
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_threshold() == thresholds


def test_what_came_since_the_last_look_is_looked_at_when_it_is_quiet(keeper: Keeper) -> None:
    dying, alive = [Knot()], [Knot()]
    knot = weakref.ref(dying[0])
    gc.disable()
    _age()
    dying.clear()
    before = gc.get_freeze_count()
    keeper.tick(quiet=False)
    assert knot() is not None
    assert gc.get_freeze_count() == before, "under load it is left to CPython"
    keeper.tick(quiet=True)
    assert knot() is None
    assert gc.get_freeze_count() > before
    assert alive[0] not in gc.get_objects(), "what is alive is set aside"


def test_nothing_is_looked_at_where_nothing_came(keeper: Keeper) -> None:
    gc.disable()
    gc.collect()
    keeper.tick(quiet=True)  # that was a look of its own; what it left is set aside
    fulls = garbage._fulls()
    keeper.tick(quiet=True)
    assert garbage._fulls() == fulls


def test_what_dies_after_it_was_set_aside_is_found_in_a_quiet_moment(
    keeper: Keeper, clock: ManualClock
) -> None:
    alive = [Knot()]
    knot = weakref.ref(alive[0])
    gc.disable()
    _age()
    keeper.tick(quiet=True)
    alive.clear()
    _age()
    keeper.tick(quiet=True)
    assert knot() is not None, "it was looked at a moment ago"
    clock.seconds += garbage.WHOLE_SECONDS
    keeper.tick(quiet=False)
    assert knot() is not None
    keeper.tick(quiet=True)
    assert knot() is None


def test_what_was_set_aside_is_looked_at_under_load_once_it_has_doubled(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "ROOM", 0)
    gc.disable()
    alive = [Knot() for _ in range(2 * gc.get_freeze_count() + 1000)]
    knot = weakref.ref(alive[0])
    gc.collect()  # as CPython does by itself under load
    keeper.tick(quiet=False)
    alive.clear()
    assert knot() is not None, "it was alive when it was looked at, and is set aside"
    keeper.tick(quiet=False)
    assert knot() is None


async def test_the_processor_time_of_the_loop_decides_whether_it_is_quiet(
    clock: ManualClock,
    collector: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent = [0.0]
    monkeypatch.setattr(garbage.time, "thread_time", lambda: spent[0])
    keeper = garbage.started()
    ticks: list[bool] = []
    monkeypatch.setattr(keeper, "tick", lambda *, quiet: ticks.append(quiet))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.run)
        await clock.advance(garbage.TICK)
        spent[0] += garbage.TICK * garbage.QUIET * 1.01
        await clock.advance(garbage.TICK)
        spent[0] += garbage.TICK * garbage.QUIET * 0.99
        await clock.advance(garbage.TICK)
        tasks.cancel_scope.cancel()
    assert ticks == [True, False, True]


def _age() -> None:
    """Let what is new outlive two looks."""
    gc.collect(0)
    gc.collect(1)
