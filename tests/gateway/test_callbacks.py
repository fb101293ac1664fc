"""Callbacks at the end of a run: what is sent, and where they never go."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from actors.commands import SendMessages
from actors.mailbox import Waiting
from bench.provider import Provider
from gateway import callbacks
from gateway.callbacks import Callbacks
from gateway.config import Settings
from gateway.errors import InvalidRequestError
from storage.pool import Pool
from tests.gateway.rest.talking import new_agent, talking, user

PRIVATE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0.0.0.0/",
    "http://10.0.0.1:8080/x",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[fd00::1]/",
    "http://[fe80::1]/",
    "http://[2002:7f00:1::]/",
    "http://[64:ff9b::7f00:1]/",
]
NOT_CALLABLE = [
    "",
    "ftp://example.com/",
    "file:///etc/passwd",
    "http://",
    "//example.com/",
    "http://user:pw@example.com/",
    "http://example.com:99999/",
    "http://example.com\\@127.0.0.1/",
    "http://127。0。0。1/",
    "http://127%2e0.0.1/",
    "http://exa mple.com/",
    "http://example.com/\r\nx: y",
    "http://example.com/" + "a" * 9000,
]


class Target:
    """A server that is called back."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.called = anyio.Event()
        self.answer = web.Response()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.calls.append(await request.json())
        self.called.set()
        return self.answer


@asynccontextmanager
async def target() -> AsyncGenerator[Target]:
    mine = Target()
    app = web.Application()
    app.router.add_post("/{path:.*}", mine.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    mine.url = f"http://{host}:{port}/done"
    try:
        yield mine
    finally:
        await runner.cleanup()


class Spawning:
    """The part of a host that callbacks use: runs them, and remembers that they ended."""

    def __init__(self) -> None:
        self.on_finished: list[Any] = []
        self.tasks: list[Any] = []

    def spawn(self, function: Any, *args: Any) -> None:
        self.tasks.append((function, args))

    async def finish(self) -> None:
        with anyio.fail_after(10):
            for function, args in self.tasks:
                await function(*args)


def waiting(url: str | None) -> Waiting:
    command = SendMessages(
        conversation_id="agent-1", messages=(), callback_url=url, request_config={"run_type": "t"}
    )
    return Waiting(seq=1, run_id="run-1", command=command, since=0.0)


async def test_a_run_that_ends_is_told_to_its_url(pool: Pool, provider: Provider) -> None:
    async with target() as called, talking(pool, provider) as served:
        agent_id = await new_agent(served)
        run = await served.json(
            "POST", f"/v1/agents/{agent_id}/messages/async", json=user("hi", callback_url=called.url)
        )
        assert run["callback_url"] == called.url
        with anyio.fail_after(10):
            await called.called.wait()
        [body] = called.calls
    assert (body["run_id"], body["status"]) == (run["id"], "completed")
    assert body["metadata"] == {"run_type": "send_message_async"}
    assert body["completed_at"]


async def test_runs_without_a_url_call_nobody() -> None:
    host = Spawning()
    Callbacks(host, private=True)(waiting(None), "completed")  # type: ignore[arg-type]
    assert host.tasks == []


async def test_a_target_that_answers_with_a_redirect_is_not_followed() -> None:
    async with target() as called, target() as elsewhere:
        called.answer = web.Response(status=307, headers={"location": elsewhere.url})
        host = Spawning()
        Callbacks(host, private=True)(waiting(called.url), "failed")  # type: ignore[arg-type]
        await host.finish()
        assert len(called.calls) == 1
        assert elsewhere.calls == []


async def test_a_target_that_is_not_there_harms_nobody() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    host = Spawning()
    Callbacks(host, private=True)(waiting(f"http://127.0.0.1:{port}/"), "completed")  # type: ignore[arg-type]
    await host.finish()


async def test_a_target_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "CALLBACK_SECONDS", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = Spawning()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        Callbacks(host, private=True)(waiting(url), "completed")  # type: ignore[arg-type]
        await host.finish()


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_unless_the_server_is_as_private(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        callbacks.check(url, private=False)
    callbacks.check(url, private=True)


@pytest.mark.parametrize("url", NOT_CALLABLE)
@pytest.mark.parametrize("private", [False, True])
def test_what_is_no_plain_web_address_is_refused_always(url: str, private: bool) -> None:
    with pytest.raises(InvalidRequestError):
        callbacks.check(url, private=private)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?a=b#c",
        "HTTP://example.com:8080",
        "http://93.184.215.14/",
        "http://[2606:4700::1]/",
    ],
)
def test_public_addresses_may_be_called(url: str) -> None:
    callbacks.check(url, private=False)


async def test_a_name_of_a_private_address_is_not_connected_to() -> None:
    async with target() as called:
        host = Spawning()
        url = called.url.replace("127.0.0.1", "localhost")
        Callbacks(host, private=False)(waiting(url), "completed")  # type: ignore[arg-type]
        await host.finish()
        assert called.calls == []


async def test_a_server_that_others_can_reach_refuses_private_callbacks_at_once(
    pool: Pool, provider: Provider
) -> None:
    settings = Settings(host="0.0.0.0", api_key="k")
    async with talking(pool, provider, settings=settings) as served:
        served.http.headers["authorization"] = "Bearer k"
        agent_id = await new_agent(served)
        refused = await served.json(
            "POST",
            f"/v1/agents/{agent_id}/messages/async",
            json=user("hi", callback_url="http://127.0.0.1:1/"),
            status=422,
        )
        assert refused["error"]["param"] == "/callback_url"


def test_installing_twice_calls_back_once() -> None:
    host = Spawning()
    for _ in range(2):
        callbacks.install(host, Settings())  # type: ignore[arg-type]
    assert len(host.on_finished) == 1
