"""The tests' end of `host_process`: starts hosts, kills, stops and asks them, and sees them end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import msgspec
from msgspec.structs import replace

from actors.commands import Receipt
from actors.events import Event
from tests.laws.host_process import (
    Asked,
    Born,
    Crashed,
    Done,
    Ended,
    Follow,
    Heard,
    News,
    Ready,
    Refused,
    Said,
    Spec,
    Stopped,
    Tell,
    Told,
)

ROOT = Path(__file__).parents[2]
BIRTH_SECONDS = 30.0
DEATH_SECONDS = 15.0  # in which a host that hung up is gone, its drain included
LINE_BYTES = 16 << 20


class GoneError(Exception):
    """The host does not answer: its process ended, or its connection did."""


class RefusedError(Exception):
    """The host refused a request; `kind` is the class of what it raised."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.error}: {refused.message}")
        self.kind = refused.error


class Line:
    """A connection to a host: one request at a time. Callers bound their waits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def tell(self, asked: Tell) -> Receipt:
        """Send a message and return its receipt.

        Raises:
            GoneError, RefusedError
        """
        said = await self._ask(asked)
        assert isinstance(said, Told)
        return said.receipt

    async def ask(self, asked: Asked) -> Said:
        """Send a request and return its one answer.

        Raises:
            GoneError, RefusedError
        """
        return await self._ask(asked)

    async def follow(self, agent_id: str, receipt: Receipt) -> AsyncGenerator[Event]:
        """Yield a run's events until it is over.

        Raises:
            GoneError, RefusedError
        """
        said = await self._ask(Follow(agent_id, receipt.run_id, receipt.conversation_id))
        while not isinstance(said, Done):
            assert isinstance(said, Heard)
            for event in said.events:
                yield event
            said = await self._read()

    async def _ask(self, asked: Asked) -> Said:
        try:
            self._writer.write(msgspec.json.encode(asked) + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise GoneError from error
        return await self._read()

    async def _read(self) -> Said:
        try:
            line = await self._reader.readline()
        except ConnectionError as error:
            raise GoneError from error
        if not line.endswith(b"\n"):
            raise GoneError
        said = msgspec.json.decode(line, type=Said)
        if isinstance(said, Refused):
            raise RefusedError(said)
        return said

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class HostProcess:
    """A host that runs, or did. It is killed at the end of its `Home` at the latest."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.pid = 0
        self.port = 0
        self.status: int | None = None
        self.crashes: list[str] = []
        self.killed = False
        self.stopped = False
        self._news = asyncio.Event()

    def hear(self, news: News) -> None:
        """Take news of this process."""
        match news:
            case Born(pid, _):
                self.pid = pid
            case Ready(_, port):
                self.port = port
            case Crashed(_, what):
                self.crashes.append(what)
            case Stopped():
                self.stopped = True
            case Ended(_, status):
                self.status = status
        self._news.set()
        self._news = asyncio.Event()

    async def ready(self) -> bool:
        """Wait until the host accepts requests, or is gone; say which."""
        while not self.port and self.status is None:
            await self._news.wait()
        return self.status is None

    async def still(self) -> None:
        """Wait until the process stands still, or is gone."""
        while not self.stopped and self.status is None:
            await self._news.wait()

    async def gone(self) -> int:
        """Wait until the process ended and return its status."""
        while self.status is None:
            await self._news.wait()
        return self.status

    async def obituary(self) -> str:
        """Return how a host ended that hung up; one that is killed at once never says why it did."""
        with anyio.move_on_after(DEATH_SECONDS):
            await self.gone()
        return f"status {self.status}, crashes {self.crashes}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, unless it ended already."""
        self.killed = self.killed or self.status is None
        self.signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it stand still from here on."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.stopped = False
        self.signal(signal.SIGCONT)

    @property
    def failed_by_itself(self) -> bool:
        """Whether its failpoint killed it, not we."""
        return self.status == -signal.SIGKILL and not self.killed

    @asynccontextmanager
    async def line(self) -> AsyncGenerator[Line]:
        """Connect to the host.

        Raises:
            GoneError: It is not there.
        """
        if not await self.ready():
            raise GoneError(f"status {self.status}, {self.crashes}")
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=LINE_BYTES)
        except OSError as error:
            raise GoneError(f"no connection: {error}") from error
        line = Line(reader, writer)
        try:
            yield line
        finally:
            line.close()


class Home:
    """The hosts of one test."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._input = b""
        self._tokens = 0
        self._unborn: dict[int, HostProcess] = {}
        self._hosts: dict[int, HostProcess] = {}

    async def start(self, spec: Spec) -> HostProcess:
        """Fork a host and return it; it is not ready yet."""
        self._tokens += 1
        spec = replace(spec, token=self._tokens)
        host = self._unborn[spec.token] = HostProcess(spec)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(spec) + b"\n")
        self._process.stdin.flush()
        with anyio.fail_after(BIRTH_SECONDS):
            while not host.pid:
                await host._news.wait()
        return host

    @property
    def crashes(self) -> list[str]:
        """What the hosts logged that nobody expected."""
        return [what for host in self._hosts.values() for what in host.crashes]

    def read(self) -> None:
        """Take what the nursery said."""
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 65536)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._take(msgspec.json.decode(line, type=News))

    def _take(self, news: News) -> None:
        if isinstance(news, Born) and news.token in self._unborn:
            self._hosts[news.pid] = self._unborn.pop(news.token)
        if (host := self._hosts.get(news.pid)) is not None:
            host.hear(news)

    async def clear(self) -> None:
        """Kill every host that is left, and see them gone."""
        for host in self._hosts.values():
            host.kill()
        with anyio.fail_after(BIRTH_SECONDS):
            for host in self._hosts.values():
                await host.gone()


class Nursery:
    """The process that forks hosts; one serves a whole session of tests."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.laws.host_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(BIRTH_SECONDS)
        self._process.stdout.close()

    @asynccontextmanager
    async def home(self) -> AsyncGenerator[Home]:
        """Start hosts until the block ends; then none is left."""
        assert self._process.stdout is not None
        home = Home(self._process)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.stdout.fileno(), home.read)
        try:
            yield home
        finally:
            with anyio.CancelScope(shield=True):
                await home.clear()
            loop.remove_reader(self._process.stdout.fileno())
