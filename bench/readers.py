"""The realtime client: a process of its own that opens websockets, reads them, and says what came.

Reads `Command`s as lines of JSON from standard input, does one after another, and answers each with a line.
It ends with its standard input. `Readers` is the handle of one, for the process that measures.
"""

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import uvloop
from msgspec import Struct

from bench.load import NUMBER, Outcome, Timing
from bench.peers import ENDED, TOKEN, Counts, Gap, Peer, gap_of

PATH = "/v1/ws"
AT_ONCE = 64  # connections that are being opened
DEADLINE_S = 120.0  # of one command

T = TypeVar("T")


class Open(Struct, frozen=True, tag=True):
    """Open connections, and subscribe each to its own channels. A `plain` one has a path, no protocol."""

    port: int
    channels: list[list[str]]
    paths: list[str] = []
    small_buffer: bool = False


class Follow(Struct, frozen=True, tag=True):
    """Subscribe every connection to its channels, or unsubscribe it."""

    on: bool


class Say(Struct, frozen=True, tag=True):
    """Send one message to each agent, over the first connection; return when all are accepted."""

    agents: list[str]
    text: str


class Cancel(Struct, frozen=True, tag=True):
    """Cancel what was begun by `Say`, where it still runs."""


class Converse(Struct, frozen=True, tag=True):
    """Send one message after another over the first connection, each when the run before has ended."""

    agents: list[str]
    text: str


class Stall(Struct, frozen=True, tag=True):
    """Read nothing any more on any connection, or go on."""

    on: bool


class Count(Struct, frozen=True, tag=True):
    """Say what came since this was asked before."""


class Resume(Struct, frozen=True, tag=True):
    """Connect `times` times, one after another, and recover a channel's last `events` publications."""

    port: int
    channel: str
    events: int
    times: int


class Ask(Struct, frozen=True, tag=True):
    """Say a text over each connection, which is no command there."""

    text: str


class Leave(Struct, frozen=True, tag=True):
    """Close every connection."""


Command = Open | Follow | Say | Cancel | Converse | Stall | Count | Resume | Ask | Leave


class Counted(Struct, frozen=True):
    """What came. `lost` connections and close `codes` are counted from the start of the process.

    `delays_ms` are from when the provider wrote a stamped token to when it was read here. `sample` is one
    token's message. `cpu_s` is what this process has taken from its start.
    """

    messages: int
    tokens: int
    received_bytes: int
    lost: int
    codes: dict[int, int]
    delays_ms: list[float]
    sample: str
    cpu_s: float


class Crowd:
    """The connections of this process, and what is done with them."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._peers: list[Peer] = []
        self._channels: list[list[str]] = []
        self._runs: list[str] = []

    async def do(self, command: Command) -> Any:
        """Do one command and return its answer."""
        match command:
            case Open():
                await self._open(command)
            case Follow(on):
                await self._each("subscribe" if on else "unsubscribe")
            case Say(agents, text):
                async with asyncio.TaskGroup() as tasks:
                    for agent in agents:
                        tasks.create_task(self._say(agent, text))
            case Cancel():
                await self._cancel()
            case Converse(agents, text):
                return await self._converse(agents, text)
            case Stall(on):
                for peer in self._peers:
                    peer.stall() if on else peer.go_on()
            case Count():
                return self._count()
            case Resume():
                return await self._resume(command)
            case Ask(text):
                for peer in self._peers:
                    peer.say(text.encode())
            case Leave():
                for peer in self._peers:
                    peer.close()
                self._peers, self._channels = [], []
        return None

    async def _open(self, command: Open) -> None:
        paths = command.paths or [PATH] * len(command.channels)
        plain = bool(command.paths)
        room = asyncio.Semaphore(AT_ONCE)

        async def open_one(path: str, channels: list[str]) -> None:
            async with room:
                peer = Peer(self._counts, ("127.0.0.1", command.port), path, plain=plain)
                await peer.open(small_buffer=command.small_buffer)
                for channel in channels:
                    await peer.call("subscribe", {"channel": channel})
                self._peers.append(peer)
                self._channels.append(channels)

        async with asyncio.TaskGroup() as tasks:
            for path, channels in zip(paths, command.channels, strict=True):
                tasks.create_task(open_one(path, channels))

    async def _each(self, method: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            for peer, channels in zip(self._peers, self._channels, strict=True):
                for channel in channels:
                    tasks.create_task(peer.call(method, {"channel": channel}))

    async def _say(self, agent: str, text: str) -> None:
        messages = [{"role": "user", "content": text}]
        argument = {"method": "agent.send", "data": {"agent": agent, "messages": messages}}
        reply = msgspec.json.decode(await self._peers[0].call("rpc", argument))
        self._runs.append(reply["rpc"]["data"]["run"])

    async def _cancel(self) -> None:
        for run in self._runs:
            with contextlib.suppress(RuntimeError):  # it has ended
                await self._peers[0].call("rpc", {"method": "run.cancel", "data": {"run": run}})
        self._runs = []

    async def _converse(self, agents: list[str], text: str) -> Outcome:
        began_ns, timings = time.monotonic_ns(), list[Timing]()
        peer = self._peers[0]
        for number, agent in enumerate(agents, 1):
            seen, ended = list[int](), asyncio.Event()

            def hear(line: bytes, seen: list[int] = seen, ended: asyncio.Event = ended) -> None:
                if TOKEN in line:
                    seen.append(time.monotonic_ns())
                elif any(kind in line for kind in ENDED):
                    ended.set()

            peer.hear = hear
            sent_ns = time.monotonic_ns()
            await self._say(agent, text.replace(NUMBER, f"{number:010d}"))
            await ended.wait()
            ended_ns = time.monotonic_ns()
            first_ns = seen[0] if seen else ended_ns
            timings.append(Timing(0, number, 200, sent_ns, first_ns, ended_ns, len(seen)))
        peer.hear = None
        return Outcome(began_ns, time.monotonic_ns(), timings, {}, [])

    def _count(self) -> Counted:
        counts = self._counts
        found = Counted(
            counts.messages,
            counts.tokens,
            counts.received_bytes,
            counts.lost,
            dict(counts.codes),
            [delay / 1e6 for delay in counts.delays_ns],
            counts.sample.decode(),
            time.process_time(),
        )
        counts.clear()
        return found

    async def _resume(self, command: Resume) -> list[Gap]:
        gaps: list[Gap] = []
        for _ in range(command.times):
            before = await self._connected(command.port)
            position = msgspec.json.decode(await before.call("history", {"channel": command.channel}))
            before.close()
            epoch, offset = (position["history"][name] for name in ("epoch", "offset"))
            began_ns = time.monotonic_ns()
            peer = await self._connected(command.port)
            subscribed_ns = time.monotonic_ns()
            place = {"recover": True, "epoch": epoch, "offset": offset - command.events}
            reply = await peer.call("subscribe", {"channel": command.channel, **place})
            ended_ns = time.monotonic_ns()
            peer.close()
            gap = gap_of(reply, began_ns=began_ns, subscribed_ns=subscribed_ns, ended_ns=ended_ns)
            whole = (gap.first, gap.last) == (offset - command.events + 1, offset)
            gaps.append(gap if whole else msgspec.structs.replace(gap, exact=False))
        return gaps

    async def _connected(self, port: int) -> Peer:
        peer = Peer(self._counts, ("127.0.0.1", port), PATH, plain=False)
        await peer.open()
        return peer


class Readers:
    """A realtime client in its process. Every method raises `RuntimeError` where the client fails."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.readers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def open(self, port: int, channels: Sequence[Sequence[str]], *, small_buffer: bool = False) -> None:
        """Open a connection for each list of channels, and subscribe it to them."""
        self._do(Open(port, [list(names) for names in channels], small_buffer=small_buffer), type(None))

    def open_plain(self, port: int, paths: Sequence[str]) -> None:
        """Open a connection without a protocol for each path."""
        self._do(Open(port, [[] for _ in paths], paths=list(paths)), type(None))

    def follow(self) -> None:
        """Subscribe every connection to its channels again."""
        self._do(Follow(on=True), type(None))

    def unfollow(self) -> None:
        """Unsubscribe every connection from its channels."""
        self._do(Follow(on=False), type(None))

    def say(self, agents: Sequence[str], text: str) -> None:
        """Send each agent a message; return when all are accepted."""
        self._do(Say(list(agents), text), type(None))

    def cancel(self) -> None:
        """Cancel the runs that `say` began."""
        self._do(Cancel(), type(None))

    def converse(self, agents: Sequence[str], text: str) -> Outcome:
        """Send messages one at a time and wait for each run's end. The connection must follow the agents."""
        return self._do(Converse(list(agents), text), Outcome)

    def stall(self) -> None:
        """Read nothing any more."""
        self._do(Stall(on=True), type(None))

    def go_on(self) -> None:
        """Read again."""
        self._do(Stall(on=False), type(None))

    def count(self) -> Counted:
        """What came since this was asked before."""
        return self._do(Count(), Counted)

    def resume(self, port: int, channel: str, *, events: int, times: int) -> list[Gap]:
        """Recover a channel's last events, several times."""
        return self._do(Resume(port, channel, events, times), list[Gap])

    def ask(self, text: str) -> None:
        """Say a text over each connection that was opened plain."""
        self._do(Ask(text), type(None))

    def leave(self) -> None:
        """Close every connection."""
        self._do(Leave(), type(None))

    def _do(self, command: Command, kind: type[T]) -> T:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(command) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended: there is no answer either
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError("the realtime client failed; its standard error says why")
        return msgspec.json.decode(answer, type=kind)


async def work() -> None:
    """Do commands until there are no more."""
    loop = asyncio.get_running_loop()
    decode = msgspec.json.Decoder(Command).decode
    crowd = Crowd()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        async with asyncio.timeout(DEADLINE_S):
            answer = await crowd.do(decode(line))
        _answer(msgspec.json.encode(answer) + b"\n")


def _answer(line: bytes) -> None:
    # Under PYTHONUNBUFFERED standard output is a raw file, which may write the half of it and say so.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(line)


def main() -> None:
    """Run the client of a `Readers`."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    uvloop.run(work())


if __name__ == "__main__":
    main()
