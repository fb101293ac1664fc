"""What a measurement is."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import openai
import pytest

from bench.case import Bench, Case, Effort
from bench.cases import CASES
from bench.load import Outcome, Timing
from bench.provider import Provider


def test_every_row_has_a_name_of_its_own() -> None:
    names = [(case.name, row.key) for case in CASES for row in case.rows]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("case", "key", "figure", "relay"),
    [
        ("step", "p50_0", 5, 2.3),
        ("step", "p99_0", 12, 3.3),
        ("step", "ratio", 1.3, 1.2),
        ("step", "server_0", 3, 1.15),
        ("step", "server_1000", 4, 1.25),
        ("step", "postgres_0", 1, 0.6),
        ("crowd", "server_32", 2.2, 0.62),
        ("crowd", "rate_32", 400, 1250),
        ("crowd", "rate_128", 400, 1300),
        ("first_token", "p50", 4, 2.1),
        ("first_token", "p99", 10, 2.8),
        ("tokens", "cpu_32", 90, 70),
        ("tokens", "cpu_128", 90, 70),
        ("held", "held", 128, 256),
        ("create", "server", 3, 0.6),
        ("memory", "idle", 130, 74),
        ("memory", "agent", 24, None),
        ("start", "existing", 2, None),
        ("start", "new", 5, None),
        ("ws_first_token", "p50", 3, 2.1),
        ("ws_first_token", "p99", 10, 2.8),
        ("ws_burst", "cpu_1", 12, None),
        ("ws_burst", "cpu_200", 6, None),
        ("ws_memory", "connection", 32, None),
        ("ws_stalled", "held", 1, None),
        ("ws_stalled", "ratio", 1.1, None),
        ("ws_resume", "running", 20, None),
        ("ws_resume", "ended", 20, None),
        ("ws_resume", "inexact", 0, None),
        ("asleep", "hot", 24, None),
        ("cold", "cold_p95_20", 50, None),
        ("cold", "cold_p95_1000", 50, None),
        ("search", "archival_cpu_10000", 8, None),
        ("killed", "faults", 0, None),
        ("load_first_token", "beyond_sse", 1.5, None),
        ("load_first_token", "p99_websocket_128", 100, None),
        ("load_messages", "best_rest", 0.5, None),
        ("load_history", "ratio_1000", 1.3, 1.2),
    ],
)
def test_the_figures_are_those_that_were_asked_for(
    case: str, key: str, figure: float, relay: float | None
) -> None:
    (row,) = [row for one in CASES if one.name == case for row in one.rows if row.key == key]
    assert (row.figure, row.relay) == (figure, relay)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_row_stands_beside_the_relay_or_a_limit_or_a_figure_or_is_one(case: Case) -> None:
    beside = "relay" in case.on
    alone = [
        row.key
        for row in case.rows
        if not (beside or row.reference or row.limit is not None or row.figure is not None)
    ]
    assert alone == []
    scaled = [row for row in case.rows if row.limit_then is not None]
    assert all(row.limit is not None and row.figure is not None for row in scaled)


def test_a_wait_shows_how_far_it_is(provider_process: Provider, tmp_path: object) -> None:
    shown = list[object]()

    @contextmanager
    def bar(words: str, total: float) -> Generator[Callable[[float], None]]:
        shown.append((words, total))
        yield shown.append

    bench = Bench(provider_process, tmp_path, Effort())  # type: ignore[arg-type]
    bench.bar = bar
    began = time.monotonic()
    bench.wait("it settles", 0.4)
    assert time.monotonic() - began >= 0.4
    first, *ticks = shown
    assert first == ("it settles", 0.4)
    assert sum(cast("list[float]", ticks)) == pytest.approx(0.4)


def test_what_is_made_once_is_made_once(provider_process: Provider, tmp_path: object) -> None:
    bench = Bench(provider_process, tmp_path, Effort())  # type: ignore[arg-type]
    assert [bench.once(("a",), lambda: [1]), bench.once(("a",), lambda: [2])] == [[1], [1]]
    bench.keep(("a",), [3])
    assert bench.once(("a",), lambda: [2]) == [3]


async def test_first_tokens_are_compared_with_what_the_provider_recorded(
    provider: Provider, tmp_path: object
) -> None:
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="x") as client:
        await client.chat.completions.create(
            model="fixed-t1-d20", messages=[{"role": "user", "content": "#0000000007# hm"}]
        )
    (record,) = await provider.log(ended=1, keep=True)
    assert record.first_ns is not None
    timing = Timing(0, 7, 200, record.arrived_ns - 2_000_000, record.first_ns + 3_000_000, 0, 1)
    bench = Bench(provider, tmp_path, Effort())  # type: ignore[arg-type]
    first = await asyncio.to_thread(bench.first_tokens, Outcome(0, 0, [timing], {}, []))
    assert (first.added_ms, first.back_ms) == ([5.0], [3.0])
