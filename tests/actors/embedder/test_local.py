"""Requests, batches and the life of the child: on a scripted child, and on the real one where it must die."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from actors.embedder import local, process
from actors.embedder.local import LocalEmbedder
from actors.embedder.process import LostError, UnusableError
from actors.errors import EmbeddingError
from tests.gateway.clocks import manual_clock

Vectors = list[tuple[float, ...]]


class Script:
    """Stands for `process.start`: children whose vector of a text is its length, and what became of them."""

    def __init__(self) -> None:
        self.started = 0
        self.stopped = 0
        self.batches: list[list[str]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.poison: str | None = None
        self.refusal: Exception | None = None

    async def start(self) -> Any:
        self.started += 1
        if self.refusal is not None:
            raise self.refusal
        return FakeChild(self, self.started)


class FakeChild:
    def __init__(self, script: Script, number: int) -> None:
        self.script = script
        self.pid: int | None = number
        self.dimensions = 1

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.script.batches.append(list(texts))
        await self.script.answering.wait()
        if self.script.poison in texts:
            self.pid = None
            raise LostError("it died")
        return [(float(len(text)),) for text in texts]

    async def stop(self) -> None:
        self.pid = None
        self.script.stopped += 1


@asynccontextmanager
async def embedder(start: Callable[[], Any] = process.start, **how: Any) -> AsyncGenerator[LocalEmbedder]:
    """Run an embedder until the block ends."""
    async with asyncio.TaskGroup() as group:
        made = LocalEmbedder(lambda function: group.create_task(function()), start=start, **how)
        try:
            with anyio.fail_after(15):
                yield made
        finally:
            await made.aclose()


async def settle() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_nothing_runs_before_the_first_text_and_nothing_after_the_end() -> None:
    script = Script()
    async with embedder(script.start) as made:
        assert made.status().state == "stopped"
        assert await made.embed([]) == []
        assert script.started == 0
        assert await made.embed(["a", "bb"]) == [(1.0,), (2.0,)]
        assert (made.status().state, made.status().pid) == ("running", 1)
    assert (script.started, script.stopped) == (1, 1)
    with pytest.raises(EmbeddingError, match="shutting down"):
        await made.embed(["a"])


async def test_what_waits_gathers_and_everybody_has_a_turn() -> None:
    script = Script()
    async with embedder(script.start) as made:
        script.answering.clear()
        async with asyncio.TaskGroup() as group:
            bulk = group.create_task(made.embed([f"bulk {i}" for i in range(100)]))
            await settle()
            question = group.create_task(made.embed(["question"]))
            await settle()
            script.answering.set()
        assert question.result() == [(8.0,)]
        assert len(bulk.result()) == 100
    assert [len(batch) for batch in script.batches] == [32, 32, 32, 5]
    assert "question" in script.batches[1]


async def test_a_batch_is_bounded_by_its_characters_and_a_text_by_its_own() -> None:
    script = Script()
    async with embedder(script.start) as made:
        vectors = await made.embed(["x" * 3000, "y" * 3000, "z" * 100_000])
    assert vectors == [(3000.0,), (3000.0,), (float(local.TEXT_CHARS),)]
    assert [len(batch) for batch in script.batches] == [1, 1, 1]


async def test_a_text_that_kills_the_model_twice_fails_and_harms_nobody_else() -> None:
    script = Script()
    script.poison = "poison"
    async with embedder(script.start) as made:
        script.answering.clear()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(made.embed(["a"]))
            await settle()
            guilty = group.create_task(attempt(made, ["b", "poison"]))
            innocent = group.create_task(made.embed(["c", "d"]))
            await settle()
            script.answering.set()
        assert first.result() == [(1.0,)]
        assert innocent.result() == [(1.0,), (1.0,)]
        assert "died twice" in str(guilty.result())
        assert script.started == 3


async def attempt(made: LocalEmbedder, texts: list[str]) -> EmbeddingError | None:
    try:
        await made.embed(texts)
    except EmbeddingError as error:
        return error
    return None


async def test_a_model_that_cannot_be_used_says_so_and_is_tried_again_later() -> None:
    script = Script()
    script.refusal = UnusableError("the library onnxruntime is not installed")
    with manual_clock() as clock:
        async with embedder(script.start, idle_seconds=10_000) as made:
            for _ in range(3):
                with pytest.raises(EmbeddingError, match="onnxruntime is not installed"):
                    await made.embed(["a"])
            assert script.started == 1
            assert (made.status().state, made.status().reason) == ("failed", str(script.refusal))
            script.refusal = None
            await clock.advance(local.UNUSABLE_SECONDS)
            assert await made.embed(["a"]) == [(1.0,)]


async def test_a_caller_that_leaves_costs_nothing_more() -> None:
    script = Script()
    async with embedder(script.start) as made:
        script.answering.clear()
        async with asyncio.TaskGroup() as group:
            stays = group.create_task(made.embed(["a"]))
            await settle()
            leaves = group.create_task(made.embed(["never asked"]))
            await settle()
            leaves.cancel()
            await settle()
            script.answering.set()
        assert stays.result() == [(1.0,)]
        await made.embed(["b"])
    assert script.batches == [["a"], ["b"]]


async def test_too_many_waiting_texts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MOST_WAITING", 40)
    script = Script()
    async with embedder(script.start) as made:
        script.answering.clear()
        async with asyncio.TaskGroup() as group:
            bulk = group.create_task(made.embed(["x"] * 60))
            await settle()
            with pytest.raises(EmbeddingError, match="too many texts") as refused:
                await made.embed(["y"] * 20)
            assert refused.value.retryable
            script.answering.set()
        assert len(bulk.result()) == 60


async def test_closing_refuses_who_waits() -> None:
    script = Script()
    script.answering.clear()
    async with embedder(script.start) as made, asyncio.TaskGroup() as group:
        asked = group.create_task(attempt(made, ["asked"]))
        await settle()
        waiting = group.create_task(attempt(made, ["waiting"]))
        await settle()
        await made.aclose()
    for task in (asked, waiting):
        assert "shutting down" in str(task.result())


async def test_without_a_parent_for_its_task_it_refuses() -> None:
    made = LocalEmbedder(lambda _: None)
    with pytest.raises(EmbeddingError, match="shutting down"):
        await made.embed(["a"])


async def test_the_child_is_stopped_when_idle_and_started_again() -> None:
    script = Script()
    with manual_clock() as clock:
        async with embedder(script.start, idle_seconds=600) as made:
            await made.embed(["a"])
            await clock.advance(599)
            await made.embed(["a"])
            await clock.advance(599)
            assert (made.status().state, script.stopped) == ("running", 0)
            await clock.advance(1)
            assert (made.status().state, script.stopped) == ("stopped", 1)
            assert await made.embed(["a"]) == [(1.0,)]
            assert script.started == 2


async def test_the_real_child_stops_when_idle_and_its_memory_is_reported() -> None:
    with manual_clock() as clock:
        async with embedder(idle_seconds=600) as made:
            (before,) = await made.embed(["tea"])
            status = made.status()
            assert status.pid is not None
            assert 100 << 20 < status.rss_bytes < 300 << 20
            await clock.advance(600)
            with anyio.fail_after(15):
                while process.rss_bytes(status.pid) is not None:
                    await anyio.sleep(0.01)
            assert made.status().state == "stopped"
            assert await made.embed(["tea"]) == [before]
            assert made.status().pid not in (None, status.pid)


async def test_a_child_that_is_killed_in_a_batch_loses_no_request() -> None:
    async with embedder() as made:
        (expected,) = await made.embed(["tea"])
        first = made.status().pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # so that the batch is under way when the kill comes
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(made.embed(["tea", "coffee"]))
            await settle()
            os.kill(first, signal.SIGKILL)
        assert asked.result()[0] == expected
        assert made.status().pid not in (None, first)


async def test_a_child_that_was_killed_while_idle_is_replaced_unnoticed() -> None:
    async with embedder() as made:
        before = await made.embed(["tea"])
        first = made.status().pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await made.embed(["tea"]) == before


async def test_many_at_once_get_their_own_vectors_and_the_loop_goes_on() -> None:
    texts = [f"fact {i} about {'tea' if i % 2 else 'the sea'}" for i in range(60)]
    async with embedder() as made:
        alone = [(await made.embed([text]))[0] for text in texts]
        child = made.status().pid
        assert child is not None
        longest = 0.0  # that the loop computed without a break; a machine that is late does not count

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.thread_time()
                await asyncio.sleep(0.005)
                longest = max(longest, time.thread_time() - before)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            os.kill(child, signal.SIGSTOP)
            together = [group.create_task(made.embed([text])) for text in texts]
            await settle()  # which the loop does while the child does nothing
            assert not any(task.done() for task in together)
            os.kill(child, signal.SIGCONT)
            await asyncio.wait(together)
            watching.cancel()
        assert [task.result()[0] for task in together] == alone
        assert longest < 0.25  # the passes together take longer than this
