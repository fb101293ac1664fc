"""An answer on its way in: what is taken where it arrives, what wakes whoever waits, and what ends it."""

import asyncio
import gzip
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
import anyio
import pytest

from actors.errors import DrainingError, ModelError
from actors.llm import incoming as module
from actors.llm.incoming import Incoming
from actors.llm.model import Finished, Piece, Take, TextPiece
from actors.llm.openai_stream import ChatDecoder
from actors.llm.wire import Timeouts, Watch
from tests.actors.llm.servers import HEAD, Exchange, server
from tests.actors.llm.streams import DONE, event

DEADLINE = 20.0
PATIENT = Timeouts(first_token=DEADLINE, idle=DEADLINE)

Batch = list[Piece]


class Line:
    """A provider that sends what it is told to, when it is told to; `None` ends the answer and hangs up."""

    def __init__(self, head: bytes = b"transfer-encoding: chunked\r\n") -> None:
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._head = head
        self._chunked = b"chunked" in head
        self.response: aiohttp.ClientResponse | None = None

    async def arrived(self, count: int) -> None:
        """Wait until so many bytes of the body stand in aiohttp's buffer or were taken out of it."""
        assert self.response is not None
        while self.response.content.total_bytes < count:
            await asyncio.sleep(0.001)

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self._said.put_nowait(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)

    def say_all(self, part: bytes) -> None:
        """Send a chunk and the end of the body in one packet."""
        self._said.put_nowait(b"%x\r\n%b\r\n0\r\n\r\n" % (len(part), part))

    def end(self) -> None:
        if self._chunked:
            self._said.put_nowait(b"0\r\n\r\n")
        self._said.put_nowait(None)

    def hang_up(self) -> None:
        self._said.put_nowait(None)

    async def serve(self, exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(HEAD + self._head + b"\r\n")
        while (part := await self._said.get()) is not None:
            await exchange.send(part)


def text(*words: str) -> bytes:
    return b"".join(event({"content": word}) for word in words)


END = event({}, "stop") + DONE


@asynccontextmanager
async def incoming(
    line: Line, take: Take | None = None, timeouts: Timeouts = PATIENT
) -> AsyncGenerator[Incoming]:
    with anyio.fail_after(DEADLINE):
        async with (
            server(line.serve) as provider,
            aiohttp.ClientSession() as session,
            session.post(provider.call_url) as response,
        ):
            line.response = response
            watch = Watch("test", timeouts)
            made = Incoming(response, ChatDecoder("test"), watch, provider="test", take=take)
            try:
                yield made
            finally:
                made.close()
                line.hang_up()


class Taken:
    """Takes pieces, and tells how often whoever waits was woken."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._came = asyncio.Event()

    def __call__(self, pieces: Batch) -> None:
        self.words += [piece.text for piece in pieces if isinstance(piece, TextPiece)]
        self._came.set()

    async def until(self, *words: str) -> None:
        while self.words != list(words):
            await self._came.wait()
            self._came.clear()


async def test_what_comes_while_somebody_waits_is_taken_and_wakes_nobody() -> None:
    line, taken = Line(), Taken()
    async with incoming(line, taken) as answer, asyncio.TaskGroup() as tasks:
        read = tasks.create_task(answer.read())
        for i, word in enumerate(words := ["one ", "two ", "three"], 1):
            line.say(text(word))
            await taken.until(*words[:i])
            assert not read.done()
        line.say(END)
        assert await read == [Finished("stop")]


async def test_what_came_while_nobody_waited_is_returned_at_once_and_in_order() -> None:
    line, taken = Line(), Taken()
    async with incoming(line, taken) as answer:
        said = text("one "), text("two ")
        line.say(*said)
        await line.arrived(sum(map(len, said)))
        assert await answer.read() == [TextPiece("one "), TextPiece("two ")]
    assert taken.words == []


async def test_without_a_taker_every_read_returns_what_arrived() -> None:
    line = Line()
    async with incoming(line) as answer:
        line.say(text("one "))
        assert await answer.read() == [TextPiece("one ")]
        line.say(text("two"))
        assert await answer.read() == [TextPiece("two")]
        line.say(END)
        assert await answer.read() == [Finished("stop")]


async def test_what_the_taker_raises_is_raised_to_whoever_waits() -> None:
    def full(pieces: Batch) -> None:
        raise DrainingError("no lease")

    line = Line()
    async with incoming(line, full) as answer:
        line.say(text("one "))
        with pytest.raises(DrainingError):
            await answer.read()


async def test_an_answer_that_is_cut_off_is_an_error_and_keeps_what_was_taken() -> None:
    line, taken = Line(), Taken()
    async with incoming(line, taken) as answer, asyncio.TaskGroup() as tasks:
        read = tasks.create_task(_failure(answer))
        line.say(text("one "))
        await taken.until("one ")
        line.hang_up()
        assert (await read).retryable
    assert taken.words == ["one "]


async def test_an_answer_without_an_end_is_given_up_and_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES", 1024 * 1024)
    line, taken = Line(), Taken()
    async with incoming(line, taken) as answer, asyncio.TaskGroup() as tasks:
        read = tasks.create_task(_failure(answer))
        for _ in range(11):
            line.say(text("x" * 100_000))
        error = await read
    assert not error.retryable
    assert "did not end within 1 MiB" in str(error)
    assert set(taken.words) == {"x" * 100_000}


async def _failure(answer: Incoming) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await answer.read()
    return caught.value


async def test_the_end_of_the_body_is_the_end_even_in_the_same_packet_without_a_mark() -> None:
    line, taken = Line(), Taken()
    async with incoming(line, taken) as answer:
        line.say_all(text("one ") + event({}, "stop"))
        pieces = await answer.read()
        while not any(isinstance(piece, Finished) for piece in pieces):
            pieces += await answer.read()
    said = taken.words + [piece.text for piece in pieces if isinstance(piece, TextPiece)]
    assert said == ["one "]


async def test_a_silent_provider_is_given_up_while_somebody_waits() -> None:
    line, taken = Line(), Taken()
    quick = Timeouts(first_token=DEADLINE, idle=0.1)
    async with incoming(line, taken, quick) as answer:
        line.say(text("one "))
        error = await _failure(answer)
    assert "no further bytes" in str(error)


async def test_tokens_that_are_taken_are_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    line, taken = Line(), Taken()
    checks = asyncio.Event()
    check = Watch._check  # pyright: ignore[reportPrivateUsage] - tells that a deadline has passed

    def counted(watch: Watch) -> None:
        check(watch)
        checks.set()

    monkeypatch.setattr(Watch, "_check", counted)
    patient = Timeouts(first_token=DEADLINE, idle=3.0)
    async with incoming(line, taken, patient) as answer, asyncio.TaskGroup() as tasks:
        read = tasks.create_task(answer.read())
        words: list[str] = []
        while not checks.is_set() or len(words) < 3:
            words.append(f"{len(words)} ")
            line.say(text(words[-1]))
            await taken.until(*words)
            with anyio.move_on_after(0.1):
                await checks.wait()
        assert not read.done()
        line.say(END)
        assert await read == [Finished("stop")]


async def test_cancelling_the_wait_takes_nothing_more() -> None:
    line, taken = Line(), Taken()
    async with incoming(line, taken) as answer, asyncio.TaskGroup() as tasks:
        read = tasks.create_task(answer.read())
        line.say(text("one "))
        await taken.until("one ")
        read.cancel()
        line.say(text("two "))
        with pytest.raises(asyncio.CancelledError):
            await read
        await line.arrived(len(text("one ", "two ")))
        assert taken.words == ["one "]
        assert await answer.read() == [TextPiece("two ")]


async def test_a_compressed_answer_that_unpacks_to_more_than_a_buffer_is_taken_whole() -> None:
    line, taken = Line(b"transfer-encoding: chunked\r\ncontent-encoding: gzip\r\n"), Taken()
    words = [f"{i} " + "x" * 1000 for i in range(3000)]
    async with incoming(line, taken) as answer:
        line.say(gzip.compress(text(*words) + END))
        line.end()
        pieces = await answer.read()
        while not any(isinstance(piece, Finished) for piece in pieces):
            pieces += await answer.read()
    said = taken.words + [piece.text for piece in pieces if isinstance(piece, TextPiece)]
    assert said == words
