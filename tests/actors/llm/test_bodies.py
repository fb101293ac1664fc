"""The body of a request says when it was written."""

import aiohttp
import pytest

from actors.llm import bodies
from tests.actors.llm.servers import Exchange, server


@pytest.mark.parametrize("size_bytes", [10, bodies.LARGE_BYTES + 1], ids=["small", "large"])
async def test_a_body_arrives_whole_and_says_each_time_that_it_was_written(size_bytes: int) -> None:
    data, told, came = b"x" * size_bytes, list[bool](), list[bytes | None]()

    async def handler(exchange: Exchange) -> None:
        came.append(await exchange.request())
        await exchange.answer()

    async with server(handler) as provider, aiohttp.ClientSession() as session:
        body = bodies.of(data, lambda: told.append(True))
        assert told == [], "it is only made by now"
        async with session.post(provider.base_url, data=body) as response:
            await response.read()
    (request,) = came
    assert request is not None
    assert request.endswith(b"\r\n\r\n" + data)
    assert told == [True]


@pytest.mark.parametrize("size_bytes", [10, bodies.LARGE_BYTES + 1])
def test_a_body_that_nobody_asks_about_is_as_aiohttp_likes_it(size_bytes: int) -> None:
    body = bodies.of(b"x" * size_bytes)
    assert isinstance(body, bytes) is (size_bytes == 10)
