"""JavaScript clients under Node: the npm packages of `tests/contract/js`, installed once and run by tests."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

FOLDER = Path(__file__).parent / "js"
LOCK = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"  # npm writes it last
INSTALL_SECONDS = 300
LINE_SECONDS = 30.0
ENDS_SECONDS = 5.0
STDERR_BYTES = 20_000  # what is kept of a program's complaints


class NodeError(AssertionError):
    """A program failed or did not end; carries what it wrote to standard error."""

    def __init__(self, script: str, what: str, stderr: str) -> None:
        super().__init__(f"{script} {what}\n{stderr}")
        self.stderr = stderr


class Running:
    """A program that runs: its lines as they come, and a way to say something to it."""

    def __init__(self, script: str, process: Process, complaints: IO[bytes]) -> None:
        self._script = script
        self._complaints = complaints
        self._process = process
        assert process.stdout is not None
        self._text = TextReceiveStream(process.stdout)
        self._rest = ""

    @property
    def stderr(self) -> str:
        """The end of what it wrote to standard error so far."""
        size = os.fstat(self._complaints.fileno()).st_size
        return os.pread(self._complaints.fileno(), STDERR_BYTES, max(0, size - STDERR_BYTES)).decode(
            errors="replace"
        )

    async def line(self) -> str:
        """Return the next line of its output without its end. Raises NodeError where none comes in time."""
        try:
            with anyio.fail_after(LINE_SECONDS):
                while "\n" not in self._rest:
                    self._rest += await self._text.receive()
        except TimeoutError:
            raise NodeError(self._script, "printed nothing in time", self.stderr) from None
        except anyio.EndOfStream:
            with anyio.move_on_after(ENDS_SECONDS):
                await self._process.wait()
            raise NodeError(self._script, f"ended ({self._process.returncode})", self.stderr) from None
        line, _, self._rest = self._rest.partition("\n")
        return line

    async def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.send(line.encode() + b"\n")

    async def close(self) -> None:
        """End its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    async def ends(self, timeout: float = LINE_SECONDS) -> str:
        """Wait for its end and return the output that was not read.

        Raises NodeError where it fails or takes more than `timeout` seconds.
        """
        rest = self._rest
        try:
            with anyio.fail_after(timeout):
                async for text in self._text:
                    rest += text
                code = await self._process.wait()
        except TimeoutError:
            raise NodeError(
                self._script, f"did not end within {timeout} s", f"{self.stderr}\n{rest}"
            ) from None
        if code != 0:
            raise NodeError(self._script, f"failed ({code})", f"{self.stderr}\n{rest[-STDERR_BYTES:]}")
        return rest


class Node:
    """Node on this machine, with the packages of `tests/contract/js` beside the programs it runs."""

    def __init__(self, executable: str) -> None:
        self._executable = executable

    async def run(
        self, script: str, *args: str, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> str:
        """Run a program of `tests/contract/js` and return its output.

        Raises NodeError with what it wrote to standard error where it fails or takes more than `timeout`
        seconds.
        """
        async with self.start(script, *args, env=env) as running:
            return await running.ends(timeout)

    @asynccontextmanager
    async def start(
        self, script: str, *args: str, env: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Running]:
        """Run a program beside the block, which reads its lines; it is killed where the block ends first."""
        command = [self._executable, str(FOLDER / script), *args]
        environment = {**os.environ, "FORCE_COLOR": "0", **(env or {})}
        with TemporaryFile() as complaints:
            process = await anyio.open_process(command, cwd=FOLDER, env=environment, stderr=complaints)
            async with process:
                try:
                    yield Running(script, process, complaints)
                finally:
                    if process.returncode is None:
                        process.kill()


@lru_cache(maxsize=1)
def ready() -> str:
    """Install the packages where they are missing or older than the lock; return why that failed, or ""."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm are not on this machine"
    with LOCK.open("rb") as lock:  # two test sessions may start at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if INSTALLED.exists() and INSTALLED.stat().st_mtime >= LOCK.stat().st_mtime:
            return ""
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"npm ci took more than {INSTALL_SECONDS} s"
        if done.returncode != 0:
            return f"npm ci failed:\n{done.stderr[-STDERR_BYTES:]}"
        INSTALLED.touch()  # npm may keep the time of an older file
        return ""


@pytest.fixture(scope="session")
def node() -> Node:
    """Return Node with the packages installed; without it tests are skipped, and fail where CI is "true"."""
    if reason := ready():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    executable = shutil.which("node")
    assert executable is not None
    return Node(executable)
