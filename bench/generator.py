"""The load generator: a process of its own that says messages through one door, in an open or a closed loop.

Reads an `Order` as JSON from standard input, opens its lines, says everything, and prints a `Given` back.

In the open loop a message is meant to be sent at its time, whatever became of those before: a server that
stalls is asked all the same, and each answer is timed from when its message was meant to be sent, so that
what waited counts (Gil Tene, "How NOT to Measure Latency": no coordinated omission). How late the generator
itself was is kept with each. As many may be under way as there are lines; a message that finds none free is
not sent, and counts as failed. In the closed loop each line says its next message when it has its answer,
which finds what a server can do at most, and hides what waiting would have cost; its window is of whole
`rounds`.
"""

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from bench import arrivals, lines
from bench.alarm import Alarm
from bench.arrivals import Arrivals
from bench.doors import Door, DoorError
from bench.lines import Heard, Line
from bench.rounds import Rounds

AT_ONCE = 64  # lines that are being opened
OPEN_SECONDS = 60.0
CLOSE_SECONDS = 0.2  # what connections get to end in
MARK = "#{number:010d}#"  # in each message: how the provider's records are matched with what was seen
NO_LINE = "none of the lines was free"
UNFINISHED = "no whole answer in time"


class Order(Struct, frozen=True, kw_only=True):
    """What to do: an `open_loop`, or else `at_once` messages under way, again and again for `seconds`.

    `agents` are the lines, one each, which take turns. Without `at_once` all of them have one under way.
    What was meant in the first `warm_s` is said and left out of what is given back; of the closed loop, what
    was answered by then. The closed loop goes on for `least_rounds`, until `most_s` if need be. After the
    last message what is under way gets `grace_s` to end. Numbers begin above `first_number`.
    """

    door: Door
    agents: list[str]
    open_loop: Arrivals | None = None
    seconds: float = 0.0
    at_once: int | None = None
    least_rounds: int = 1
    most_s: float = 0.0
    warm_s: float = 0.0
    grace_s: float = 10.0
    text: str = "And what do you make of it?"
    first_number: int = 0


class Said(Struct, frozen=True, array_like=True):
    """One message. Times are `time.monotonic_ns()`; `first_ns` is 0 where no text came.

    `sent_ns` is 0 where it was not sent. `failure` is empty where the whole answer came.
    """

    number: int
    meant_ns: int
    sent_ns: int
    first_ns: int
    ended_ns: int
    words_ns: list[int]
    failure: str = ""


class Given(Struct, frozen=True):
    """What came of an order. `started_ns` is when it was warm, `cpu_s` what the generator itself took.

    `window_ns` is from when to when a closed loop had whole rounds answered, absent where it had not one.
    """

    started_ns: int
    ended_ns: int
    said: list[Said]
    cpu_s: float
    window_ns: tuple[int, int] | None = None


class Generator:
    """An order under way."""

    def __init__(self, order: Order) -> None:
        self._order = order
        tabs = lines.tabs(len(order.agents))
        self._lines = [lines.line(order.door, agent, tabs=tabs) for agent in order.agents]
        self._free = deque(self._lines)
        self._rounds: Rounds | None = None
        self._said: list[Said] = []
        self._number = order.first_number

    async def open(self) -> None:
        """Open every line. Raises an exception group where the server cannot be reached."""
        room = asyncio.Semaphore(AT_ONCE)

        async def open_one(line: Line) -> None:
            async with room:
                await line.open()

        async with asyncio.timeout(OPEN_SECONDS), asyncio.TaskGroup() as tasks:
            for line in self._lines:
                tasks.create_task(open_one(line))

    async def work(self) -> Given:
        """Say everything, and close the lines."""
        order, cpu_s, started_ns = self._order, time.process_time(), time.monotonic_ns()
        pace, seconds = order.open_loop, max(order.seconds, order.most_s)
        with contextlib.suppress(TimeoutError):  # each that was cut has its failure
            async with (
                asyncio.timeout((pace.seconds if pace else seconds) + order.grace_s),
                asyncio.TaskGroup() as tasks,
            ):
                if pace is None:
                    self._closed_loop(tasks, started_ns)
                else:
                    await self._open_loop(tasks, pace, started_ns)
        given = self._given(started_ns + round(order.warm_s * 1e9), time.process_time() - cpu_s)
        for line in self._lines:
            line.close()
        return given

    def _given(self, warm_ns: int, cpu_s: float) -> Given:
        """Leave out what was meant, and of the closed loop what had ended, before it was warm."""
        if self._rounds is None:
            said = [said for said in self._said if said.meant_ns >= warm_ns]
            return Given(warm_ns, time.monotonic_ns(), said, cpu_s)
        window = self._rounds.window
        from_ns = warm_ns if window is None else window[0]
        said = [said for said in self._said if said.ended_ns > from_ns]
        return Given(from_ns, time.monotonic_ns(), said, cpu_s, window)

    def _closed_loop(self, tasks: asyncio.TaskGroup, started_ns: int) -> None:
        order, size = self._order, self._order.at_once or len(self._lines)
        warm_ns, until_ns, last_ns = (
            started_ns + round(after * 1e9) for after in (order.warm_s, order.seconds, order.most_s)
        )
        rounds = self._rounds = Rounds(
            size,
            least=order.least_rounds,
            started_ns=started_ns,
            warm_ns=warm_ns,
            until_ns=until_ns,
            last_ns=last_ns,
        )
        for _ in range(size):
            tasks.create_task(self._go_round(rounds))

    async def _go_round(self, rounds: Rounds) -> None:
        while not rounds.over(now := time.monotonic_ns()):
            await self._say(self._free.popleft(), now)
            rounds.answered(self._said[-1].ended_ns)

    async def _open_loop(self, tasks: asyncio.TaskGroup, open_loop: Arrivals, started_ns: int) -> None:
        with Alarm() as alarm:
            for after in arrivals.times(open_loop):
                meant_ns = started_ns + round(after * 1e9)
                await alarm.wait_until(meant_ns)
                if self._free:
                    tasks.create_task(self._say(self._free.popleft(), meant_ns))
                else:
                    self._number += 1
                    self._said.append(Said(self._number, meant_ns, 0, 0, time.monotonic_ns(), [], NO_LINE))

    async def _say(self, line: Line, meant_ns: int) -> None:
        self._number += 1
        number, heard, failure = self._number, Heard(), UNFINISHED
        text = f"{MARK.format(number=number)} {self._order.text}"
        sent_ns = time.monotonic_ns()
        try:
            await line.say(text, heard)
            failure = ""
        except (DoorError, OSError) as error:
            failure = str(error) or type(error).__name__
        finally:
            now = time.monotonic_ns()
            self._said.append(Said(number, meant_ns, sent_ns, heard.first_ns, now, heard.words_ns, failure))
            self._free.append(line)


async def work(order: Order) -> Given:
    """Do one order. Raises an exception group where the server cannot be reached."""
    generator = Generator(order)
    await generator.open()
    given = await generator.work()
    await asyncio.sleep(CLOSE_SECONDS)
    return given


def run(order: Order) -> Given:
    """Do an order in a process of its own. Raises `RuntimeError` where the server cannot be reached."""
    process = subprocess.run(
        [sys.executable, "-m", "bench.generator"],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if process.returncode:
        raise RuntimeError("the load generator failed; its standard error says why")
    return msgspec.json.decode(process.stdout, type=Given)


def main() -> None:
    """Read an order, do it, print what came of it."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    given = uvloop.run(work(order))
    # Under PYTHONUNBUFFERED standard output is a raw file, which may write the half of it and say so.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(given) + b"\n")


if __name__ == "__main__":
    main()
