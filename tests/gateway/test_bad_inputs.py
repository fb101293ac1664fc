"""Hostile and malformed input at every HTTP entry: a plain refusal, no trace of the inside, life goes on."""

import gzip
import json
import re
import struct
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest

from actors.llm.providers import provider_for
from bench.provider import Provider
from gateway import connections
from gateway.app import App
from gateway.config import Settings, SettingsError, load
from gateway.rest.routes import ROUTES
from storage.pool import Pool
from tests.serving import Served, listening, serving

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "bad_inputs.json").read_text())
KEY = "correct-horse"
PWNED = Path("/tmp/pwned")
INSIDE = re.compile(rb"Traceback|asyncpg|/storage/|/gateway/|select .* from|insert into", re.IGNORECASE)
SECONDS = 15.0
QUIET_SECONDS = 5.0  # of a connection on which nothing more is expected

Headers = list[tuple[bytes, bytes]]


def of(*entries: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["entry"] in entries]


# --- the payload expressions of the data file -------------------------------------------------


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def png_bomb(side: int) -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (side // 8 + 1) * 100, 9)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


def payload_of(case: dict[str, Any]) -> bytes:
    if "py" not in case:
        return as_json({"value": case["payload"]}) if case["entry"] == "block_value" else b""
    names = {
        "J": as_json,
        "png_bomb": png_bomb,
        "gz_bomb": lambda size_kb: gzip.compress(b" " * size_kb * 1024),
        "raw": lambda text: text.encode("latin-1"),
    }
    return eval(case["py"], names)  # the file is ours


def headers_of(case: dict[str, Any]) -> Headers:
    given = {"Host": "127.0.0.1", "Content-Type": "application/json", **case.get("headers", {})}
    return [
        (name.lower().encode(), value.encode().decode("unicode_escape").encode("latin-1"))
        for name, value in given.items()
        if value
    ]


# --- calling without a client library, which would refuse half of this --------------------------


async def call(
    app: App, method: str, path: str, *, headers: Headers, body: bytes = b"", query: bytes = b""
) -> tuple[int, bytes, dict[bytes, bytes]]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    if body or method != "GET":
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8283),
    }
    with anyio.fail_after(SECONDS):
        await app(scope, receive, send)
    return (
        sent[0]["status"],
        b"".join(message.get("body", b"") for message in sent[1:]),
        dict(sent[0]["headers"]),
    )


async def check(served: Served, case: dict[str, Any], *, agent_id: str, block_id: str) -> None:
    path = case["path"].replace("{agent}", agent_id).replace("{block}", block_id)
    body = payload_of(case)
    query = case.get("query", "").encode()
    status, answer, headers = await call(
        served.app, case["method"], path, headers=headers_of(case), body=body, query=query
    )
    assert status in case["expect"]["status"], (case["id"], status, answer[:300])
    assert INSIDE.search(answer) is None, case["id"]
    assert headers[b"x-request-id"].startswith(b"req-")
    if status >= 400:
        decoded = json.loads(answer)
        assert decoded["error"]["message"], case["id"]
        assert decoded["error"]["request_id"].encode() == headers[b"x-request-id"]
        kinds = case["expect"].get("error")
        assert kinds is None or decoded["error"]["type"] in kinds.split("|"), (case["id"], decoded)
    elif case["entry"] == "block_value":
        assert json.loads(answer)["value"] == case["payload"]


async def alive(served: Served, agent_id: str) -> None:
    answer = await served.json(
        "POST", f"/v1/agents/{agent_id}/messages", json={"messages": [{"role": "user", "content": "hi"}]}
    )
    assert answer["stop_reason"]["stop_reason"] == "end_turn"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("entry", ["rest_body", "rest_path", "rest_query", "rest_header", "block_value"])
async def test_a_bad_request_is_answered_and_the_next_good_one_works(
    pool: Pool, provider: Provider, entry: str
) -> None:
    cases = of(entry)
    assert cases
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:
        blocks = [{"label": "human", "value": "v"}]
        made = await served.agent(model="openai/echo", memory_blocks=blocks)
        await alive(served, made["id"])  # what is loaded once is loaded before answers are timed
        for case in cases:
            await check(served, case, agent_id=made["id"], block_id=made["blocks"][0]["id"])
            await served.json("GET", f"/v1/agents/{made['id']}")
        await alive(served, made["id"])
    assert not PWNED.exists()  # noqa: ASYNC240 - one stat


def searches(agent_id: str, words: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return every request that searches, with these words."""
    return [
        ("POST", "/v1/messages/search", {"json": {"query": words}}),
        ("POST", "/v1/messages/search", {"json": {"query": words, "agent_id": agent_id}}),
        ("POST", "/v1/passages/search", {"json": {"query": words, "agent_id": agent_id}}),
        ("POST", "/v1/tools/search", {"json": {"query": words}}),
        ("GET", f"/v1/agents/{agent_id}/archival-memory", {"params": {"search": words}}),
        ("GET", f"/v1/agents/{agent_id}/archival-memory/search", {"params": {"query": words}}),
        ("GET", "/v1/agents/", {"params": {"query_text": words}}),
        ("GET", "/v1/blocks/", {"params": {"label_search": words}}),
        ("GET", "/v1/tools/", {"params": {"search": words}}),
        ("GET", "/v1/tags/", {"params": {"query_text": words}}),
    ]


@pytest.mark.timeout(60)
async def test_whatever_is_searched_for_is_words_and_found_as_words(pool: Pool, provider: Provider) -> None:
    """The text that makes patterns slow is stored, so that one that ran as a pattern would be noticed."""
    hostile = "a" * 50 + "!"
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:
        agent_id = (await served.agent(model="openai/echo"))["id"]
        await served.json(
            "POST",
            f"/v1/agents/{agent_id}/messages",
            json={"messages": [{"role": "user", "content": f"{hostile} union"}]},
        )
        await served.json("POST", f"/v1/agents/{agent_id}/archival-memory", json={"text": hostile})
        for case in of("search"):
            for method, path, more in searches(agent_id, case["payload"]):
                with anyio.fail_after(SECONDS):
                    answer = await served.http.request(method, path, **more)
                assert answer.status_code in case["expect"]["status"], (case["id"], path, answer.text[:300])
                assert INSIDE.search(answer.content) is None, case["id"]
        found = await served.json("POST", "/v1/messages/search", json={"query": "' union --"})
        assert any("union" in hit["content"] for hit in found), "a search for a word finds it still"
        await alive(served, agent_id)


@pytest.mark.timeout(60)
async def test_a_schema_of_a_clients_tool_is_passed_on_or_refused_and_never_followed(
    pool: Pool, provider: Provider
) -> None:
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:
        agent_id = (await served.agent(model="openai/echo"))["id"]
        path = f"/v1/agents/{agent_id}/messages"
        for case in of("tool_schema"):
            body = (
                b'{"messages":[{"role":"user","content":"x"}],"client_tools":[{"name":"f","parameters":%s}]}'
                % payload_of(case)
            )
            await provider.script([{"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}])
            headers: Headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
            status, answer, _ = await call(served.app, "POST", path, headers=headers, body=body)
            assert status in case["expect"]["status"], (case["id"], status, answer[:300])
            assert INSIDE.search(answer) is None, case["id"]
            await provider.reset()
            await served.http.post(f"/v1/agents/{agent_id}/messages/cancel")
            await alive(served, agent_id)


@pytest.mark.timeout(60)
async def test_of_twenty_answers_to_one_request_one_is_carried_out(pool: Pool, provider: Provider) -> None:
    """The case REST-approval-twice."""
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:
        rule = {"type": "requires_approval", "tool_name": "memory_insert"}
        blocks = [{"label": "human", "value": ""}]
        made = await served.agent(
            model="openai/echo", tool_rules=[rule], memory_blocks=blocks, tools=["memory_insert"]
        )
        path = f"/v1/agents/{made['id']}/messages"
        arguments = {"label": "human", "new_string": "Likes tea"}
        await provider.script(
            [{"tool_calls": [{"name": "memory_insert", "arguments": arguments, "id": "call-1"}]}]
        )
        asked = await served.json(
            "POST", path, json={"messages": [{"role": "user", "content": "I like tea"}]}
        )
        assert asked["stop_reason"]["stop_reason"] == "requires_approval"
        yes = {
            "type": "approval",
            "approvals": [{"type": "approval", "tool_call_id": "call-1", "approve": True}],
        }
        statuses: list[int] = []

        async def race() -> None:
            statuses.append((await served.http.post(path, json={"messages": [yes]}, timeout=30)).status_code)

        async with anyio.create_task_group() as racers:
            for _ in range(20):
                racers.start_soon(race)
        assert 200 in statuses
        assert set(statuses) <= {200, 202, 409}
        block = await served.json("GET", f"/v1/agents/{made['id']}/core-memory/blocks/human")
        assert block["value"].strip() == "Likes tea", "the tool ran once"
        await alive(served, made["id"])


@pytest.mark.timeout(60)
async def test_an_answer_in_very_many_pieces_is_whole_and_others_are_served_meanwhile(
    pool: Pool, provider: Provider
) -> None:
    """The case LLM-1M-deltas, shortened."""
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:
        agent_id = (await served.agent(model="openai/fixed-t50000-d0-g0"))["id"]
        body = {"messages": [{"role": "user", "content": "go on"}]}
        answers: list[Any] = []

        async def ask() -> None:
            path = f"/v1/agents/{agent_id}/messages"
            answers.append(await served.json("POST", path, json=body, timeout=60))

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask)
            while not answers:
                with anyio.fail_after(SECONDS):
                    await served.json("GET", "/v1/health/")
                await anyio.lowlevel.checkpoint()
        assert answers[0]["stop_reason"]["stop_reason"] == "end_turn"
        (message,) = (m for m in answers[0]["messages"] if m["message_type"] == "assistant_message")
        assert len(message["content"].split()) == 50_000
        await served.json("PATCH", f"/v1/agents/{agent_id}", json={"model": "openai/echo"})
        await alive(served, agent_id)


async def test_a_wrong_key_is_refused_and_the_right_one_works(pool: Pool) -> None:
    async with serving(pool, settings=Settings(api_key=KEY)) as served:
        served.http.headers["authorization"] = f"Bearer {KEY}"
        made = await served.agent()
        for case in of("auth"):
            if "path" in case:
                await check(served, case, agent_id=made["id"], block_id="")
        await alive(served, made["id"])


async def test_no_operation_works_without_the_key(pool: Pool) -> None:
    ids = {
        "block_label": "human",
        "conversation_id": "default",
        "page": "settings",
        "tool_name": "send_message",
        "chat_id": "chat",
        "script": "wakeful.js",
        "memory_id": "passage-00000000-0000-4000-8000-000000000000",
        **{
            f"{noun}_id": f"{noun}-00000000-0000-4000-8000-000000000000"
            for noun in ("agent", "block", "tool")
        },
        **{
            f"{noun}_id": f"{noun}-00000000-0000-4000-8000-000000000000"
            for noun in ("run", "step", "message", "archive", "passage")
        },
    }
    bodies: set[bytes] = set()
    async with serving(pool, settings=Settings(api_key=KEY)) as served:
        for route in ROUTES:
            for headers in ([], [(b"authorization", b"Bearer wrong")], [(b"x-bare-password", KEY.encode())]):
                status, answer, got = await call(
                    served.app, route.method, route.path.format(**ids), headers=headers, body=b"{}"
                )
                assert status == (200 if route.public else 401), route.path
                if not route.public:
                    decoded = json.loads(answer)
                    assert decoded["detail"] == "Unauthorized"
                    del decoded["error"]["request_id"]
                    bodies.add(as_json(decoded))
                    assert b"www-authenticate" in got
    assert len(bodies) == 1


def test_a_server_without_a_key_refuses_to_bind_other_addresses() -> None:
    (case,) = of("startup")
    with pytest.raises(SettingsError, match=case["expect"]["stderr_contains"]):
        load({}, {"host": "0.0.0.0"})


# --- raw sockets --------------------------------------------------------------------------------


async def pieces(case: dict[str, Any], agent_id: str) -> AsyncGenerator[bytes]:
    if "gen_chunked" not in case["py"]:
        yield payload_of(case)
        return
    path = case["path"].replace("{agent}", agent_id)
    yield (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    piece = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    for _ in range(1 << 10):
        yield piece


async def exchange(url: str, case: dict[str, Any], agent_id: str) -> bytes:
    """Send what the server takes; return what it answered until it closed, or until it goes quiet."""
    address = urlsplit(url)
    answer = bytearray()
    assert address.hostname is not None
    stream = await anyio.connect_tcp(address.hostname, address.port or 0)
    async with stream:
        with anyio.move_on_after(QUIET_SECONDS):
            try:
                async for piece in pieces(case, agent_id):
                    await stream.send(piece)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the server has cut us off, as it should
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return bytes(answer)
    assert answer, f"{case['id']}: neither an answer nor a close"
    return bytes(answer)


async def test_bytes_that_are_not_http_harm_nobody(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    async with serving(pool) as served, listening(served.app) as url:
        made = await served.agent()
        for case in of("http_raw"):
            answer = await exchange(url, case, made["id"])
            if answer:
                status = int(answer.split(b" ", 2)[1])
                expected = [
                    *case["expect"]["status"],
                    *([404, 421] if case["expect"].get("or_close") else []),
                ]
                assert status in expected, (case["id"], answer[:200])
            assert INSIDE.search(answer) is None
        await alive(served, made["id"])
