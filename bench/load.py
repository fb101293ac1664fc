"""The load client: a process of its own that sends a job's requests and times what comes back.

Reads `Job`s as lines of JSON from standard input; for each it prints `started <ns>`, works, and prints its
`Outcome`, or `failed` and why. It ends with its standard input. One that has done its job gets the next: to
start one takes a fifth of a second. Like the provider it is one protocol object per connection, so that it
costs little of the machine that it shares with what is measured.
"""

import asyncio
import atexit
import gc
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop
from msgspec import Struct

NUMBER = "{number--}"  # replaced in a body by the request's own number, ten digits
BUCKET_NS = 100_000_000
TOKEN = b'"assistant_message"'  # names an event that carries a piece of the answer

_TAIL = len(TOKEN) - 1


class Slot(Struct, frozen=True):
    """One connection: sends its requests one after another, the first `start_s` after the job's start."""

    requests: list[tuple[str, str]]  # path and JSON body
    start_s: float = 0.0


class Job(Struct, frozen=True, kw_only=True):
    """What to send. With `seconds`, each slot goes round its requests until that time is over."""

    host: str = "127.0.0.1"
    port: int
    slots: list[Slot]
    seconds: float | None = None
    keep: bool = False


class Timing(Struct, frozen=True, array_like=True):
    """One request: when it was sent, when the first piece of the answer came, when all of it had come.

    `status` is 0 where the connection broke. `tokens` counts the events that carry answer text.
    """

    slot: int
    number: int
    status: int
    sent_ns: int
    first_ns: int
    ended_ns: int
    tokens: int

    @property
    def milliseconds(self) -> float:
        """From sent to the end of the answer."""
        return (self.ended_ns - self.sent_ns) / 1e6


class Outcome(Struct, frozen=True):
    """What came back. `tokens_by_bucket` counts tokens in slices of `BUCKET_NS` of the monotonic clock.

    `cpu_s` is what the client itself took of the machine.
    """

    started_ns: int
    ended_ns: int
    timings: list[Timing]
    tokens_by_bucket: dict[int, int]
    bodies: list[str]
    cpu_s: float = 0.0

    def ended_within(self, began_ns: int, until_ns: int) -> int:
        """How many requests ended in a stretch of the monotonic clock."""
        return sum(began_ns <= timing.ended_ns < until_ns for timing in self.timings)


class Client(asyncio.Protocol):
    """One connection that sends its slot's requests in turn."""

    def __init__(self, run: "Run", index: int, slot: Slot) -> None:
        self._run = run
        self._index = index
        self._slot = slot
        self._at = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._clear()

    def _clear(self) -> None:
        self._number = self._sent_ns = self._first_ns = self._tokens = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        """Send the next request, or end."""
        run = self._run
        if run.over(self._at, self._slot):
            cast("asyncio.Transport", self._transport).close()
            run.slot_done()
            return
        path, body = self._slot.requests[self._at % len(self._slot.requests)]
        self._at += 1
        self._number = run.next_number()
        data = body.replace(NUMBER, f"{self._number:010d}").encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{run.job.port}\r\naccept: */*\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        self._sent_ns = time.monotonic_ns()
        cast("asyncio.Transport", self._transport).write(head.encode() + data)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if self._run.job.keep:
            self._body.append(body)
        found = (self._tail + body).count(TOKEN)
        self._tail = body[-_TAIL:]
        if found:
            now = time.monotonic_ns()
            self._first_ns = self._first_ns or now
            self._tokens += found
            self._run.tokens[now // BUCKET_NS] += found

    def on_message_complete(self) -> None:
        self._record(self._parser.get_status_code())
        if self._run.job.keep:
            self._run.bodies.append(b"".join(self._body).decode())
            self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._run.loop.call_soon(self.send)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if self._sent_ns:
            self._record(0)
            self._parser = httptools.HttpResponseParser(self)
            self._body.clear()
            self._run.connect(self)

    def _record(self, status: int) -> None:
        now = time.monotonic_ns()
        first = self._first_ns or now
        timing = Timing(self._index, self._number, status, self._sent_ns, first, now, self._tokens)
        self._run.timings.append(timing)
        self._clear()


class Run:
    """A job under way."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop, group: asyncio.TaskGroup) -> None:
        self.job = job
        self.loop = loop
        self.timings: list[Timing] = []
        self.tokens: Counter[int] = Counter()
        self.bodies: list[str] = []
        self.started_ns = time.monotonic_ns()
        self._cpu_s = time.process_time()
        self._group = group
        self._number = 0
        self._left = len(job.slots)
        self._ended = asyncio.Event()

    def next_number(self) -> int:
        """Number the next request."""
        self._number += 1
        return self._number

    def over(self, sent: int, slot: Slot) -> bool:
        """Whether a slot has sent all it shall."""
        if self.job.seconds is None:
            return sent >= len(slot.requests)
        return time.monotonic_ns() - self.started_ns >= self.job.seconds * 1e9

    def slot_done(self) -> None:
        """Count a slot that ended."""
        self._left -= 1
        if not self._left:
            self._ended.set()

    def connect(self, client: Client) -> None:
        """Connect a client; it begins to send at once."""
        self._group.create_task(self.loop.create_connection(lambda: client, self.job.host, self.job.port))

    async def work(self) -> Outcome:
        """Send everything and wait for all of it."""
        for index, slot in enumerate(self.job.slots):
            self.loop.call_later(slot.start_s, self.connect, Client(self, index, slot))
        await self._ended.wait()
        return Outcome(
            started_ns=self.started_ns,
            ended_ns=time.monotonic_ns(),
            timings=self.timings,
            tokens_by_bucket=dict(self.tokens),
            bodies=self.bodies,
            cpu_s=time.process_time() - self._cpu_s,
        )


async def work(job: Job) -> Outcome:
    """Do one job. Raises an exception group where the target cannot be reached."""
    async with asyncio.TaskGroup() as group:
        run = Run(job, asyncio.get_running_loop(), group)
        print(f"started {run.started_ns}", flush=True)
        return await run.work()


class Worker:
    """The process of a load client, for one job after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )

    def begin(self, job: Job) -> int:
        """Begin a job; return when it started. Raises `RuntimeError` where it does not."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        return int(self._read(b"started"))

    def end(self) -> Outcome:
        """Wait for the end of the job. Raises `RuntimeError` where the target could not be reached."""
        return msgspec.json.decode(self._read(b"outcome"), type=Outcome)

    def _read(self, expected: bytes) -> bytes:
        assert self._process.stdout is not None
        word, _, rest = self._process.stdout.readline().partition(b" ")
        if word != expected:
            self.close()
            why = msgspec.json.decode(rest, type=str) if word == b"failed" else "its standard error says why"
            raise RuntimeError(f"the load client failed: {why}")
        return rest

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


_idle: list[Worker] = []  # have done their jobs; the next takes the one that was used last


@atexit.register
def close() -> None:
    """End the load clients that have no job."""
    while _idle:
        _idle.pop().close()


class Loading:
    """A load client at work, in its process."""

    def __init__(self, job: Job) -> None:
        self._worker = _idle.pop() if _idle else Worker()
        self.started_ns = self._worker.begin(job)

    def finish(self) -> Outcome:
        """Wait for the end of the job. Raises `RuntimeError` where the target could not be reached."""
        outcome = self._worker.end()
        _idle.append(self._worker)
        return outcome


def run(job: Job) -> Outcome:
    """Do a job in a process of its own and wait for its outcome."""
    return Loading(job).finish()


def main() -> None:
    """Read jobs, do them, print their outcomes."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    for line in sys.stdin.buffer:
        try:
            outcome = uvloop.run(work(msgspec.json.decode(line, type=Job)))
        except Exception:  # noqa: BLE001 - whatever it is, who gave the job is told
            _answer(b"failed", traceback.format_exc())
            return
        _answer(b"outcome", outcome)


def _answer(word: bytes, value: object) -> None:
    # Under PYTHONUNBUFFERED standard output is a raw file, which may write the half of it and say so.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(word + b" " + msgspec.json.encode(value) + b"\n")


if __name__ == "__main__":
    main()
