"""A real child process with the real model."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import uvloop

from actors.embedder import frames, process
from actors.embedder.process import Child, LostError, UnusableError

ROOT = Path(__file__).parents[3]


def of(child: Child, name: str) -> bytes:
    """Return what the kernel says of a child."""
    return Path(f"/proc/{child.pid}/{name}").read_bytes()


def own() -> tuple[subprocess.Popen[str], int]:
    """Start a process that owns a child; return it, and the child's id."""
    command = [sys.executable, "-m", "tests.actors.embedder.owner"]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


async def test_it_embeds_and_ends_when_told() -> None:
    child = await process.start()
    pid = child.pid
    assert pid is not None
    assert child.dimensions == 384
    one, other = await child.embed(["tea", "coffee"])
    assert len(one) == len(other) == 384
    assert await child.embed(["coffee"]) == [other]
    assert (process.rss_bytes(pid) or 0) > 50 << 20
    await child.stop()
    assert child.pid is None
    assert process.rss_bytes(pid) is None
    await child.stop()


def test_it_runs_on_the_event_loop_of_the_server() -> None:
    async def scenario() -> None:
        child = await process.start()
        assert len(await child.embed(["tea"])) == 1
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(LostError):
            await child.embed(["tea"])
        await child.stop()
        assert child.pid is None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_a_killed_child_is_noticed() -> None:
    child = await process.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(LostError):
        await child.embed(["tea"])
    await child.stop()


async def test_it_gets_no_secrets_and_is_first_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    child = await process.start()
    assert b"secret" not in of(child, "environ")
    assert of(child, "oom_score_adj").strip() == b"800"
    await child.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_dies_with_its_owner(number: signal.Signals) -> None:
    owner, pid = await asyncio.to_thread(own)
    owner.send_signal(number)
    await asyncio.to_thread(owner.communicate)
    with anyio.fail_after(15):
        while process.rss_bytes(pid):
            await anyio.sleep(0.01)


async def test_a_child_that_says_nothing_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_CODE", "import time; time.sleep(60)")
    monkeypatch.setattr(process, "START_SECONDS", 0.2)
    with pytest.raises(LostError, match=r"not loaded within"):
        await process.start()


async def test_a_child_that_stops_answering_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    child = await process.start()
    assert child.pid is not None
    monkeypatch.setattr(process, "BATCH_SECONDS", 0.2)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(LostError, match=r"no answer within"):
        await child.embed(["tea"])
    await child.stop()


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import sys; sys.exit(3)", LostError, "died"),
        ("print('no frame at all', flush=True); import time; time.sleep(9)", LostError, "a frame of"),
        (f"import os; os.write(1, {frames.frame(frames.Failed('no model'))!r})", UnusableError, "no model"),
        (f"import os; os.write(1, {frames.frame(frames.Vectors(1, 1, b''))!r})", LostError, "out of turn"),
    ],
)
async def test_a_child_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(process, "_CODE", code)
    with pytest.raises(error, match=words):
        await process.start()


async def test_a_python_that_is_not_there_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(LostError, match="cannot be started"):
        await process.start()


async def test_a_start_that_is_cancelled_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Child] = []

    class Seen(Child):
        async def load(self) -> None:
            made.append(self)
            await super().load()

    monkeypatch.setattr(process, "Child", Seen)
    task = asyncio.ensure_future(process.start())
    with anyio.fail_after(15):
        while not made:
            await anyio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made[0].pid is None
