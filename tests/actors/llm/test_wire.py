"""Proxies, listings and what a broken connection means. Streams are in `test_http`."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from yarl import URL

from actors.errors import ModelError
from actors.llm.providers import Provider, provider_for
from actors.llm.wire import Timeouts, Watch, Wire, broken
from tests.actors.llm.servers import Exchange, server

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.example/v1", "http://secure:1"),
        ("http://api.example/v1", "http://plain:2"),
        ("http://localhost:11434/v1", None),
        ("http://127.0.0.1:11434/v1", None),
        ("http://[::1]:11434/v1", None),
        ("https://internal.corp/v1", None),
        ("https://deep.internal.corp/v1", None),
        ("https://notinternal.corp/v1", "http://secure:1"),
        ("https://exact.example:8443/v1", None),
    ],
)
def test_the_environment_s_proxies_are_followed(url: str, proxy: str | None) -> None:
    env = {
        "HTTPS_PROXY": "secure:1",
        "http_proxy": "http://plain:2",
        "HTTP_PROXY": "http://ignored:3",
        "NO_PROXY": " .internal.corp, exact.example:8443 ,",
    }
    expected = None if proxy is None else URL(proxy)
    assert Wire(env).proxy_for(URL(url)) == expected


def test_a_star_turns_proxies_off_and_all_is_the_last_resort() -> None:
    assert Wire({"ALL_PROXY": "http://p:1"}).proxy_for(URL("https://x/")) == URL("http://p:1")
    assert Wire({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}).proxy_for(URL("https://x/")) is None
    assert Wire().proxy_for(URL("https://x/")) is None


async def test_models_are_listed_with_the_key(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        asked = await exchange.request()
        assert asked is not None
        assert asked.startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert b"Bearer sk-test-secret" in asked
        await exchange.answer(b'{"data": [{"id": "m"}]}', JSON)

    async with server(handler) as provider:
        assert await wire.list_models(provider) == {"data": [{"id": "m"}]}


async def test_anthropic_s_list_takes_its_own_headers(wire: Wire) -> None:
    seen: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(await exchange.request() or b"")
        await exchange.answer(b'{"data": []}', JSON)

    async with server(handler) as plain:
        await wire.list_models(
            Provider(name="anthropic", type="anthropic", base_url=plain.base_url, api_key="sk-ant")
        )
    assert b"x-api-key: sk-ant" in seen[0].lower()
    assert b"authorization" not in seen[0].lower()


async def test_a_list_that_fails_is_a_model_error(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.answer(b"no key sk-test-secret", b"HTTP/1.1 401 No\r\n")

    async with server(handler) as provider:
        with pytest.raises(ModelError) as raised:
            await wire.list_models(provider)
    assert raised.value.kind == "llm_authentication"
    assert "secret" not in str(raised.value)
    with pytest.raises(ModelError):
        await wire.list_models(provider_for("x", "http://127.0.0.1:1"))


async def test_a_session_opens_again_after_it_was_closed() -> None:
    wire = Wire()
    await wire.aclose()
    first = wire.session
    assert wire.session is first
    await wire.aclose()
    assert first.closed
    assert wire.session is not first
    await wire.aclose()


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (aiohttp.ConnectionTimeoutError(), "llm_timeout", True),
        (TimeoutError(), "llm_timeout", True),
        (aiohttp.ServerDisconnectedError(), "llm_error", True),
        (aiohttp.ClientPayloadError(), "llm_error", True),
        (aiohttp.InvalidURL("x"), "llm_error", False),
        (ValueError("odd url"), "llm_error", False),
    ],
)
def test_what_breaks_is_classified(error: Exception, kind: str, retryable: bool) -> None:
    meant = broken(error, "test", Timeouts())
    assert (meant.kind, meant.retryable) == (kind, retryable)
    assert "odd url" not in str(meant)


class Loop:
    """An event loop's clock and timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timer: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Loop":
        self.timer = (when, callback)
        return self

    def cancel(self) -> None:
        self.timer = None

    def move(self, seconds: float) -> None:
        """Let time pass, running each timer when it is due."""
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            self.now, callback = self.timer
            self.timer = None
            callback()
        self.now = end


class Body:
    """A response that can only be closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def watched(loop: Loop) -> tuple[Watch, Body]:
    watch, body = Watch("test", Timeouts()), Body()
    watch.begin(body.close)
    return watch, body


def test_the_first_token_may_take_ten_minutes_and_no_longer(loop: Loop) -> None:
    watch, body = watched(loop)
    watch.wait()
    loop.move(599)
    watch.got()  # bytes that hold nothing of the answer
    watch.wait()
    assert not body.closed
    loop.move(1)
    assert body.closed
    assert watch.expired
    assert str(watch.error()) == "model provider 'test' sent no first token within 600 s"


def test_after_it_no_silence_may_last_two_minutes(loop: Loop) -> None:
    watch, body = watched(loop)
    watch.progress()
    for _ in range(4):
        watch.wait()
        loop.move(119)
        watch.got()
    watch.wait()
    loop.move(119)
    assert not body.closed
    loop.move(1)
    assert body.closed
    assert "no further bytes within 120 s" in str(watch.error())


def test_bytes_without_an_answer_do_not_last_longer_than_the_first_token_may(loop: Loop) -> None:
    watch, body = watched(loop)
    watch.progress()
    for _ in range(59):
        watch.wait()
        loop.move(10)
        watch.got()
        assert not body.closed
    watch.wait()
    loop.move(10)
    assert body.closed
    assert "within 600 s" in str(watch.error())


def test_the_consumer_s_time_is_not_the_provider_s(loop: Loop) -> None:
    watch, body = watched(loop)
    watch.progress()
    loop.move(3650)
    watch.wait()
    loop.move(119)
    assert not body.closed
    loop.move(1)
    assert body.closed


def test_after_the_finish_reason_little_is_waited_for(loop: Loop) -> None:
    watch, body = watched(loop)
    watch.progress()
    watch.finishing()
    watch.wait()
    loop.move(5)
    assert body.closed


def test_nothing_is_closed_after_the_end(loop: Loop) -> None:
    watch, body = watched(loop)
    watch.wait()
    watch.end()
    loop.move(10_000)
    assert not body.closed
