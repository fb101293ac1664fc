"""Streams end when their token does, and never with more than one end."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from actors import clock
from gateway.expiring import until


class Source:
    """Says what it is given, then waits for ever, or ends."""

    def __init__(self, *batches: bytes, ends: bool = False) -> None:
        self.closed = False
        self._batches = batches
        self._ends = ends

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        try:
            for batch in self._batches:
                yield [batch]
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def said(source: Source, expires_at: float | None, last: bytes = b"over") -> list[bytes]:
    return [one async for batch in until(source.batches(), expires_at, last=lambda: last) for one in batch]


def soon() -> float:
    return clock.now().timestamp() + 0.2


async def test_a_stream_that_waits_ends_with_its_token() -> None:
    source = Source(b"a", b"b")
    assert await said(source, soon()) == [b"a", b"b", b"over"]
    assert source.closed


async def test_a_stream_that_ends_before_says_nothing_more() -> None:
    assert await said(Source(b"a", ends=True), soon()) == [b"a"]


async def test_a_stream_whose_token_lasts_for_ever_is_left_as_it_is() -> None:
    batches = Source(b"a", ends=True).batches()
    assert until(batches, None, last=lambda: b"over") is batches
    assert [batch async for batch in batches] == [[b"a"]]


async def test_a_stream_that_is_over_as_its_token_ends_has_one_end() -> None:
    assert await said(Source(b"a"), soon(), last=b"") == [b"a"]


async def test_a_stream_that_never_waits_ends_as_well() -> None:
    async def endless() -> AsyncGenerator[list[bytes], None]:
        while True:
            yield [b"x"]

    found = [batch async for batch in until(endless(), soon(), last=lambda: b"over")]
    assert found[-1] == [b"over"]
    assert found[0] == [b"x"]


async def test_a_source_that_takes_too_long_by_itself_is_no_expired_token() -> None:
    async def slow() -> AsyncGenerator[list[bytes], None]:
        yield [b"a"]
        raise TimeoutError

    with pytest.raises(TimeoutError):
        async for _ in until(slow(), clock.now().timestamp() + 60, last=lambda: b"over"):
            pass
