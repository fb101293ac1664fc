"""The application around the routes."""

import asyncio
import json
import logging
from typing import Any, cast

import anyio
import httpx
import pytest
from msgspec import Struct
from starlette.responses import Response, StreamingResponse

from actors.host import Host
from gateway import app as module
from gateway.app import App, Context, Route
from gateway.config import Settings
from gateway.errors import BadArgumentError

KIB = 1024


class Body(Struct, frozen=True):
    text: str = ""


async def echo(ctx: Context) -> Response:
    return module.json((await ctx.body(Body)).text)


async def maybe(ctx: Context) -> Response:
    body = await ctx.optional_body(Body)
    return module.json("nothing" if body is None else body.text)


async def fail(ctx: Context) -> Response:
    raise RuntimeError("select secret from insides")


async def refuse(ctx: Context) -> Response:
    raise BadArgumentError("no", param="/x")


async def hang(ctx: Context) -> Response:
    await anyio.sleep_forever()
    raise AssertionError


async def break_off(ctx: Context) -> Response:
    async def parts() -> Any:
        yield b"one"
        raise RuntimeError("in mid-stream")

    return StreamingResponse(parts())


async def who(ctx: Context) -> Response:
    return module.json({"modern": ctx.modern, "user": ctx.caller.user_id, **ctx.params})


def route(method: str, path: str, endpoint: module.Endpoint, **more: Any) -> Route:
    return Route(
        method=method, path=path, endpoint=endpoint, operation_id=path.replace("/", "_"), summary=path, **more
    )


ROUTES = [
    route("POST", "/v1/echo", echo, body_bytes=4 * KIB),
    route("POST", "/v1/maybe", maybe),
    route("GET", "/v1/fail", fail),
    route("GET", "/v1/refuse", refuse),
    route("GET", "/v1/hang", hang, deadline_seconds=0.01),
    route("GET", "/v1/break", break_off),
    route("GET", "/v1/who/{agent_id}", who),
]


def client(settings: Settings | None = None) -> httpx.AsyncClient:
    app = App(cast("Host", None), settings or Settings(), ROUTES)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def call_raw(*messages: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None) -> list[Any]:
    """Call `/v1/echo` with these messages; then the client waits."""
    waiting = list(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        if not waiting:
            await anyio.sleep_forever()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/echo",
        "raw_path": b"/v1/echo",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *(headers or [])],
    }
    with anyio.fail_after(15):
        await App(cast("Host", None), Settings(), ROUTES)(scope, receive, send)
    return sent


async def test_every_answer_carries_its_request_id() -> None:
    async with client() as http:
        good = await http.post("/v1/echo", json={"text": "x"})
        bad = await http.get("/v1/refuse")
    assert good.json() == "x"
    assert good.headers["x-request-id"].startswith("req-")
    assert bad.json()["error"] == {
        "type": "invalid_argument",
        "message": "no",
        "param": "/x",
        "request_id": bad.headers["x-request-id"],
    }
    assert good.headers["x-request-id"] != bad.headers["x-request-id"]


async def test_an_unknown_failure_is_logged_once_and_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with client() as http:
        response = await http.get("/v1/fail")
    assert response.status_code == 500
    assert response.json()["detail"] == "An unknown error occurred"
    assert "secret" not in response.text
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert vars(record)["request_id"] == response.headers["x-request-id"]
    assert "select secret" in (record.exc_text or str(record.exc_info))


async def test_a_failure_in_mid_stream_ends_the_connection_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with client() as http:
        with pytest.raises(AssertionError):  # httpx: the body was never completed
            await http.get("/v1/break")
    assert [r.message for r in caplog.records if r.levelno >= logging.ERROR] == ["response broke off"]


async def test_a_route_that_takes_too_long_is_cut() -> None:
    async with client() as http:
        response = await http.get("/v1/hang")
    assert response.status_code == 504
    assert response.headers["x-should-retry"] == "false"


async def test_unknown_paths_and_methods_are_told_apart() -> None:
    async with client() as http:
        missing = await http.get("/v1/nothing")
        wrong = await http.get("/v1/echo")
    assert (missing.status_code, missing.json()["detail"]) == (404, "Not Found")
    assert "/docs/routes" in missing.json()["error"]["message"]
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_a_plain_request_for_the_websocket_is_told_that_a_proxy_must_pass_its_upgrade() -> None:
    async with client() as http:
        response = await http.get("/v1/ws")
    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
    assert "proxy" in response.json()["error"]["message"]


async def test_strangers_do_not_learn_which_routes_exist() -> None:
    async with client(Settings(api_key="k")) as http:
        for path in ("/v1/nothing", "/v1/echo", "/v1/refuse"):
            response = await http.get(path)
            assert response.status_code == 401


async def test_path_parameters_reach_the_endpoint_checked() -> None:
    agent_id = "agent-00000000-0000-4000-8000-000000000000"
    async with client() as http:
        good = await http.get(f"/latest/who/{agent_id}/")
        bad = await http.get("/v1/who/agent-1")
    assert good.json()["agent_id"] == agent_id
    assert (bad.status_code, bad.json()["error"]["param"]) == (422, "/agent_id")


@pytest.mark.parametrize(
    ("headers", "modern"),
    [
        ({"x-stainless-package-version": "1.12.1", "user-agent": "Letta/Python 1.12.1"}, True),
        ({"user-agent": "letta-client/1.7"}, True),
        ({"user-agent": "@letta-ai/letta-client/1.0"}, True),
        ({"user-agent": "letta-client/0.1"}, False),
        ({"user-agent": "curl/8"}, False),
    ],
)
async def test_the_sdk_generation_is_told_by_headers(headers: dict[str, str], modern: bool) -> None:
    async with client() as http:
        response = await http.get("/v1/who/agent-00000000-0000-4000-8000-000000000000", headers=headers)
    assert response.json()["modern"] is modern


async def test_an_optional_body_may_be_missing() -> None:
    async with client() as http:
        for content, expected in ((b"", "nothing"), (b"null", "nothing"), (b'{"text":"x"}', "x")):
            response = await http.post(
                "/v1/maybe", content=content, headers={"content-type": "application/json"}
            )
            assert response.json() == expected


async def test_a_body_in_pieces_is_put_together() -> None:
    pieces = [{"type": "http.request", "body": bytes((b,)), "more_body": True} for b in b'{"text":"abc"}']
    sent = await call_raw(*pieces, {"type": "http.request"})
    assert sent[1]["body"] == b'"abc"'


async def test_a_body_that_is_too_large_is_refused_by_its_announcement() -> None:
    sent = await call_raw(headers=[(b"content-length", b"99999999999999999999999999")])
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("more", [True, False])
async def test_a_body_that_is_too_large_is_cut_where_it_exceeds_the_limit(more: bool) -> None:
    half = {"type": "http.request", "body": b" " * 3 * KIB, "more_body": True}
    sent = await call_raw(half, {**half, "more_body": more})
    assert sent[0]["status"] == 413


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)
    sent = await call_raw({"type": "http.request", "body": b"{", "more_body": True})
    assert sent[0]["status"] == 408


async def test_a_compressed_body_is_not_inflated() -> None:
    sent = await call_raw(headers=[(b"content-encoding", b"gzip")])
    assert sent[0]["status"] == 415


async def test_a_client_that_leaves_gets_no_answer() -> None:
    assert await call_raw({"type": "http.disconnect"}) == []


async def test_cancelling_a_request_is_not_answered() -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            await call_raw()
    assert asyncio.current_task() is not None


async def test_a_websocket_without_an_application_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await App(cast("Host", None), Settings(), ROUTES)({"type": "websocket"}, cast("Any", None), send)
    assert sent == [{"type": "websocket.close"}]


async def test_the_servers_start_and_stop_are_answered() -> None:
    messages = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": messages.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await App(cast("Host", None), Settings(), ROUTES)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_json_answers_are_json() -> None:
    response = module.json({"a": None})
    assert json.loads(bytes(response.body)) == {"a": None}
    assert response.headers["content-type"] == "application/json"
