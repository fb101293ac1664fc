"""The cases of the load suite, what they ask for and that they measure."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from bench import arrivals, loaded, report
from bench.case import Bench, Effort, turns
from bench.cases import load_first_token, load_history, load_messages
from bench.doors import Door
from bench.foreign import Foreign, HistoryError, address
from bench.generator import Order
from bench.levels import Level
from bench.loaded import Floor
from bench.provider import Provider
from bench.targets import Relay, Wakeful
from storage.pool import Pool
from tests.gateway.rest.talking import talking
from tests.serving import listening


@pytest.mark.parametrize("level", load_first_token.LEVELS)
def test_so_many_streams_are_under_way_as_the_level_says(
    provider: Provider, tmp_path: Path, level: int
) -> None:
    bench, door = (
        Bench(provider, tmp_path, Effort()),
        Door(name="floor", wire="openai", url="", model="fixed-t1"),
    )
    order = load_first_token.order(Floor(provider), bench, door, level)
    stream_s = load_first_token.SHORT_S if level <= load_first_token.FEW else load_first_token.REAL_S
    assert order.open_loop is not None
    starts = arrivals.times(order.open_loop)
    measured = [start for start in starts if start >= order.warm_s]
    under_way = [sum(at - stream_s < start <= at for start in starts) for at in measured]
    assert sum(under_way) / len(under_way) == pytest.approx(level, rel=0.35)
    assert max(under_way) <= len(order.agents)  # as many lines as Poisson needs


def quick(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(load_first_token, "QUICK", (1, 8))
    monkeypatch.setattr(load_first_token, "QUICK_SECONDS", 1.0)
    monkeypatch.setattr(load_messages, "QUICK", (1, 4))
    monkeypatch.setattr(load_messages, "CLOSED_S", 0.4)
    monkeypatch.setattr(load_messages, "OPEN_S", 0.5)
    monkeypatch.setattr(load_history, "QUICK", (0, 100))
    monkeypatch.setattr(load_history, "SECONDS", 0.4)
    return Bench(provider, tmp_path, Effort(quick=True))


@pytest.mark.timeout(120)
def test_the_floor_is_measured_by_every_case(
    provider_process: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = quick(provider_process, tmp_path, monkeypatch)
    floor = Floor(provider_process)
    first = load_first_token.measure(floor, bench)
    (messages,) = turns(load_messages.measure(floor, bench))
    history = load_history.measure(floor, bench)
    assert {"p50_sse_1", "p50_websocket_8", "p99_agui_1"} <= first.keys()
    assert messages.keys() == {"p99_rest"}, "what it gave at most stands in the levels"
    assert {"p50_0", "p50_100", "ratio_100"} <= history.keys()
    loops = [(level.case, level.loop, level.level) for level in bench.levels]
    assert loops[:4] == [
        ("load_first_token", "open", 1),
        ("load_first_token", "open", 8),
        ("load_messages", "closed", 1),
        ("load_messages", "closed", 4),
    ]
    assert loops[4][:2] == ("load_messages", "open")
    assert not any(level.failed for level in bench.levels if level.loop == "closed")


@pytest.mark.timeout(120)
async def test_anyones_letta_server_is_measured_and_one_with_its_own_model_has_whole_times_only(
    pool: Pool, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is this one, spoken to as any other; its provider is not the one that the bench asks."""
    bench = quick(provider, tmp_path, monkeypatch)
    with Provider() as elsewhere:
        async with talking(pool, elsewhere) as served, listening(served.app) as url:
            foreign = Foreign(address(f"letta={url}"))
            await asyncio.to_thread(load_first_token.measure, foreign, bench)
            bench.provider = elsewhere
            await asyncio.to_thread(load_history.measure, foreign, bench)
            await asyncio.to_thread(foreign.stop)
    streams = [level for level in bench.levels if level.case == "load_first_token"]
    steps = [level for level in bench.levels if level.case == "load_history"]
    assert streams
    for level in streams:
        assert level.first is not None
        assert level.first.p50 >= 99
        assert (level.first_added, level.gap_added) == (None, None)
    assert [(step.level, step.failed) for step in steps] == [(0, 0), (100, 0)]
    assert all(step.whole_added for step in steps)
    assert bench.notes == []


def test_a_history_that_cannot_be_made_is_said_and_longer_ones_are_not_tried(
    provider_process: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, tried = quick(provider_process, tmp_path, monkeypatch), list[int]()

    class Slow(Foreign):
        def with_history(self, count: int, messages: int, **_: object) -> list[str]:
            tried.append(messages)
            raise HistoryError(f"{count * messages} messages would take a week")

        def make(self, count: int, model: str, **_: object) -> list[str]:
            return [f"line-{number}" for number in range(count)]

        def wake(self, agents: object) -> None:
            pass

    monkeypatch.setattr(load_history, "QUICK", (0, 100, 1000))
    url = f"letta=http://127.0.0.1:{provider_process.port}"
    load_history.measure(Slow(address(url)), bench)
    assert tried == [100]
    *_, note = bench.notes
    assert note.endswith("no history of 100 messages: 200 messages would take a week")


def test_a_server_that_more_agents_only_make_slower_is_not_asked_by_more(
    provider_process: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked = Bench(provider_process, tmp_path, Effort()), list[int]()
    rates = {1: 100.0, 8: 400.0, 32: 390.0, 128: 150.0, 512: 10.0}

    def measured(_: object, order: Order, level: int) -> Level:
        asked.append(level)
        return msgspec.structs.replace(LEVEL, level=level, rate=rates[level])

    monkeypatch.setattr(load_messages, "_measure", measured)
    load_messages.measure(Floor(provider_process), bench)
    assert asked == [1, 8, 32, 128, 8], "150 is less than half of 400: it collapsed; then the open loop"
    assert [level.rate for level in bench.levels][:4] == [100, 400, 390, 150]


def test_the_most_is_measured_again_in_turns_with_the_relay_at_its_own(
    provider_process: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is twice as fast in each turn as in the one before: the ratio is the same in all."""
    bench, asked = Bench(provider_process, tmp_path, Effort()), list[tuple[str, int]]()
    monkeypatch.setattr(load_messages, "LEVELS", (1, 8))
    monkeypatch.setattr(loaded, "agents", lambda _bench, _target, count, _model: ["a"] * count)
    rates = {"relay": {1: 100.0, 8: 90.0}, "ours, REST": {1: 20.0, 8: 50.0}}

    def measured(_: object, order: Order, level: int) -> Level:
        name = order.door.name
        asked.append((name, level))
        faster = 2 ** (max(0, len(asked) - 5) // 2)
        return msgspec.structs.replace(LEVEL, level=level, rate=rates[name][level] * faster)

    monkeypatch.setattr(load_messages, "_measure", measured)
    monkeypatch.setattr(
        load_messages,
        "_doors",
        lambda target: [Door(name="relay" if target.name == "relay" else "ours, REST", wire="letta", url="")],
    )
    monkeypatch.setattr(load_messages, "_steady", lambda *_: {"p99_rest": 7.0})
    load_messages.measure(Relay(tmp_path, provider_process), bench)
    found = turns(load_messages.measure(Wakeful(tmp_path, provider_process), bench))
    assert asked[4:] == [("relay", 1), ("ours, REST", 8)] * 3
    assert [turn["best_rest"] / turn["relay_rest"] for turn in found] == [0.5] * 3
    assert [turn.get("p99_rest") for turn in found] == [7.0, None, None]
    (row,) = [row for row in report.judge(load_messages.CASE, {"ours": found}) if row.key == "best_rest"]
    assert (row.allowed, row.passed) == (row.limit and row.limit.median / 2, True)


LEVEL = Level(
    case="c",
    target="floor",
    level=1,
    loop="closed",
    asked=None,
    rate=1.0,
    sent=10,
    failed=0,
    failures={},
    late=False,
    cpu_s=0.0,
    lateness=None,
    first=None,
    whole=None,
    gap=None,
    first_added=None,
    whole_added=None,
    gap_added=None,
)
