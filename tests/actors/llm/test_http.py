"""Model calls over real sockets: answers, every fault of a provider, and what becomes of connections."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from actors.errors import ModelError
from actors.llm import wire as wires
from actors.llm.dialects import CHAT
from actors.llm.http import Endpoint, OpenAIChat, warm
from actors.llm.model import Piece
from actors.llm.openai_chat import encode_system
from actors.llm.providers import Provider, provider_for
from actors.llm.wire import Timeouts, Watch, Wire
from bench.provider import Provider as Scripted
from storage.records import ModelSettings, Usage
from tests.actors.llm.servers import ANSWER, HEAD, Exchange, server
from tests.actors.llm.streams import DONE, Decoded, event, ref, request

# Only what must come too late is waited for briefly: a slow machine makes everything else late as well.
PATIENT = Timeouts(connect=30, first_token=30, idle=30, after_finish=0.2)
QUICK = Timeouts(connect=0.3, first_token=0.8, idle=0.6, after_finish=0.2)


class Way:
    """How the pieces of a call are come by."""

    takes = False


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    await warm()
    made = Wire(timeouts=PATIENT)
    yield made
    await made.aclose()


@pytest.fixture
async def hasty() -> AsyncIterator[Wire]:
    """Connections of a process that soon gives up."""
    await warm()
    made = Wire(timeouts=QUICK)
    yield made
    await made.aclose()


def model(provider: Provider, wire: Wire, name: str = "gpt-4o-mini") -> OpenAIChat:
    return OpenAIChat(
        ref(name=name, provider=provider.name, provider_type=provider.type), Endpoint(provider, wire)
    )


def scripted(provider: Scripted, wire: Wire, name: str = "gpt-4o-mini") -> OpenAIChat:
    return model(provider_for("test", provider.base_url, "sk-test-secret"), wire, name)


@pytest.fixture(params=["yielded", "taken"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call of a test get its pieces in one way, then in the other: both are the same answer."""
    monkeypatch.setattr(Way, "takes", request.param == "taken")


async def call(model: OpenAIChat, *messages: bytes, **changes: Any) -> Decoded:
    """Make one call; return all of its answer, with the error it ended in."""
    decoded = Decoded()

    def take(pieces: list[Piece]) -> None:
        assert pieces
        decoded.take(pieces)

    try:
        asked = request(*messages, **changes)
        async with aclosing(model.stream(asked, take if Way.takes else None)) as batches:
            async for pieces in batches:
                take(pieces)
    except ModelError as error:
        decoded.error = error
    assert "secret" not in str(decoded.error)
    assert "127.0.0.1" not in str(decoded.error)
    return decoded


async def failure(model: OpenAIChat) -> ModelError:
    error = (await call(model)).error
    assert error is not None
    return error


# --- answers ----------------------------------------------------------------------------------


async def test_an_answer_arrives_with_its_usage(provider: Scripted, wire: Wire) -> None:
    await provider.script(
        [
            {
                "reasoning": "Let me see.",
                "text": "Hello there, world.",
                "tool_calls": [{"name": "f", "arguments": {"x": 1}, "id": "c1"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
            }
        ]
    )
    decoded = await call(scripted(provider, wire))
    assert decoded.error is None
    assert decoded.text == "Hello there, world."
    assert decoded.reasoning == "Let me see."
    assert [[i, n, json.loads(a)] for i, n, a in decoded.calls] == [["c1", "f", {"x": 1}]]
    assert decoded.usage == Usage(prompt=7, completion=5, total=12, context=7)
    assert decoded.finish == "tool_calls"


async def test_the_request_is_what_was_asked(provider: Scripted, wire: Wire) -> None:
    await call(scripted(provider, wire), encode_system("be"), key="step-7.2")
    (record,) = await provider.log(ended=1)
    assert record.headers["authorization"] == "Bearer sk-test-secret"
    assert record.headers["idempotency-key"] == "step-7.2"
    sent = record.body
    assert sent["model"] == "gpt-4o-mini"
    assert sent["messages"] == [{"role": "system", "content": "be"}]


@pytest.mark.parametrize("how", [{"chunk": 1}, {"chunk": [7, 1, 30]}, {"crlf": True}, {"gap_ms": 1}])
async def test_an_answer_survives_any_framing(provider: Scripted, wire: Wire, how: dict[str, Any]) -> None:
    await provider.script([{"text": "Grüße aus Zürich, 🙂 und mehr.", **how}])
    decoded = await call(scripted(provider, wire))
    assert decoded.text == "Grüße aus Zürich, 🙂 und mehr."
    assert decoded.error is None


async def test_pieces_come_as_they_are_sent(provider: Scripted, wire: Wire) -> None:
    await provider.script([{"text": "one two three", "gate": "rest", "gate_after": 1}])
    decoded = Decoded()
    async with aclosing(scripted(provider, wire).stream(request())) as batches:
        decoded.take(await anext(batches))
        assert decoded.text == "one "
        await provider.open("rest")
        async for pieces in batches:
            decoded.take(pieces)
    assert decoded.text == "one two three"


async def test_a_compressed_answer_is_read(wire: Wire) -> None:
    import gzip

    async def handler(exchange: Exchange) -> None:
        asked = await exchange.request()
        assert asked is not None
        assert b"accept-encoding: gzip\r\n" in asked.lower()
        await exchange.answer(gzip.compress(ANSWER), HEAD + b"content-encoding: gzip\r\n")

    async with server(handler) as provider:
        assert (await call(model(provider, wire))).text == "Hello"


async def test_a_body_of_many_megabytes_is_sent(provider: Scripted, wire: Wire) -> None:
    decoded = await call(scripted(provider, wire), encode_system("x" * 3_000_000))
    assert decoded.error is None
    (record,) = await provider.log(ended=1)
    assert len(record.body["messages"][0]["content"]) == 3_000_000


# --- faults -----------------------------------------------------------------------------------

CUT = {"kind": "stream_incomplete", "retryable": True, "stop_reason": "llm_api_error"}
LATE = {"kind": "llm_timeout", "retryable": True, "stop_reason": "llm_api_error"}
LATER = {"kind": "llm_error", "retryable": True, "stop_reason": "llm_api_error"}
NOTHING = {"kind": "llm_empty_response", "retryable": True, "stop_reason": "invalid_llm_response"}
INVALID = {"kind": "llm_error", "retryable": True, "stop_reason": "invalid_llm_response"}

FAULTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"fault": "cut_after", "tokens": 0}, LATER),
    ({"fault": "cut_after", "tokens": 2}, CUT),
    ({"fault": "rst_after", "tokens": 2}, CUT),
    ({"fault": "hang"}, LATE),
    ({"fault": "hang_after", "tokens": 0}, LATE),
    ({"fault": "hang_after", "tokens": 2}, LATE),
    ({"fault": "half_headers"}, LATER),
    ({"fault": "empty_200"}, NOTHING),
    ({"fault": "garbage"}, NOTHING),
    ({"fault": "bad_json_event", "tokens": 2}, INVALID),
    ({"fault": "error_event", "tokens": 2}, LATER),
    ({"fault": "error_event", "tokens": 0}, LATER),
]


@pytest.mark.parametrize(("script", "expected"), FAULTS, ids=lambda value: str(value.get("fault", "")))
async def test_a_fault_ends_in_one_classified_error(
    provider: Scripted, wire: Wire, hasty: Wire, script: dict[str, Any], expected: dict[str, Any]
) -> None:
    await provider.script([{"text": "one two three four", "repeat": 2, **script}])
    model = scripted(provider, hasty if expected == LATE else wire)
    decoded = await call(model)
    assert decoded.finish is None
    assert decoded.error is not None
    assert {name: getattr(decoded.error, name) for name in expected} == expected
    assert "one two three four".startswith(decoded.text)
    await provider.reset()
    assert (await call(model)).finish == "stop", "the next call on the same connections works"


@pytest.mark.parametrize("fault", ["no_done", "no_finish"])
async def test_a_missing_end_mark_loses_nothing(provider: Scripted, wire: Wire, fault: str) -> None:
    await provider.script([{"text": "one two", "fault": fault}])
    decoded = await call(scripted(provider, wire))
    assert (decoded.text, decoded.finish, decoded.error) == ("one two", "stop", None)


STATUSES: list[tuple[int, dict[str, str], object, dict[str, Any]]] = [
    (
        400,
        {},
        {"error": {"message": "bad", "param": "messages"}},
        {"refused_content": True, "overflow": False},
    ),
    (400, {}, {"error": {"message": "x", "code": "context_length_exceeded"}}, {"overflow": True}),
    (401, {}, {"error": {"message": "wrong key sk-test-secret"}}, {"kind": "llm_authentication"}),
    (404, {}, {"error": {"message": "no such model", "code": "model_not_found"}}, {"retryable": False}),
    (
        429,
        {"retry-after": "3"},
        {"error": {"message": "slow"}},
        {"kind": "llm_rate_limit", "retry_after": 3.0},
    ),
    (429, {}, {"error": {"code": "insufficient_quota"}}, {"stop_reason": "insufficient_credits"}),
    (500, {}, {"error": {"message": "boom"}}, {"retryable": True}),
    (503, {"retry-after-ms": "1500"}, "busy", {"retryable": True, "retry_after": 1.5}),
    (307, {"location": "http://127.0.0.1:1/elsewhere"}, "", {"retryable": False}),
]


@pytest.mark.parametrize(("status", "headers", "body", "expected"), STATUSES)
async def test_a_refusal_is_classified_and_caused_by_the_official_client_s_error(
    provider: Scripted,
    wire: Wire,
    status: int,
    headers: dict[str, str],
    body: object,
    expected: dict[str, Any],
) -> None:
    await provider.script([{"status": status, "headers": headers, "body": body}])
    error = await failure(scripted(provider, wire))
    assert {name: getattr(error, name) for name in expected} == expected
    assert error.status == status
    assert isinstance(error.__cause__, openai.APIStatusError)
    assert error.__cause__.status_code == status


async def test_a_rejected_key_makes_the_headers_anew(provider: Scripted, wire: Wire) -> None:
    endpoint = Endpoint(provider_for("test", provider.base_url, "sk-wrong"), wire)
    before = await endpoint.target("/chat/completions")
    assert await endpoint.target("/chat/completions") is before
    error = await failure(OpenAIChat(ref(), endpoint))
    assert error.kind == "llm_authentication"
    assert "sk-wrong" not in str(error)
    assert await endpoint.target("/chat/completions") is not before


async def test_a_refused_connection_may_be_tried_later(wire: Wire) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await failure(model(provider_for("test", f"127.0.0.1:{unused.getsockname()[1]}"), wire))
    assert error.retryable
    assert "cannot be reached" in str(error)
    assert error.requests == 1, "nobody was there to be asked twice"


async def test_a_name_that_nobody_knows_may_be_tried_later(wire: Wire) -> None:
    error = await failure(model(provider_for("test", "http://nobody.invalid"), wire))
    assert error.retryable
    assert "resolved" in str(error)


async def test_a_connection_that_nobody_accepts_times_out(hasty: Wire) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:  # the backlog is full: further handshakes get no answer
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            error = await failure(model(provider_for("test", f"127.0.0.1:{full.getsockname()[1]}"), hasty))
        finally:
            for one in waiting:
                one.close()
    assert error.kind == "llm_timeout"
    assert error.retryable


@pytest.fixture
async def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that no authority signed, with its key."""
    subject = "-subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 {subject} -keyout key -out cert"
    await anyio.run_process(command.split(), cwd=tmp_path)
    return tmp_path


async def test_only_a_trusted_certificate_is_accepted_and_no_other_is_tried_again(
    certificate: Path, wire: Wire
) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate / "cert", certificate / "key")

    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.answer()

    async with server(handler, ssl=theirs) as provider:
        error = await failure(model(provider, wire))
        trusting = Wire(timeouts=PATIENT, tls=ssl.create_default_context(cafile=certificate / "cert"))
        try:
            decoded = await call(model(provider, trusting))
        finally:
            await trusting.aclose()
    assert not error.retryable
    assert "certificate" in str(error)
    assert decoded.text == "Hello"


async def test_what_is_not_http_is_an_error(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with server(handler) as provider:
        assert (await failure(model(provider, wire))).retryable


async def test_a_base_url_with_a_user_sends_the_key_instead(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        asked = await exchange.request()
        assert asked is not None
        assert b"bearer sk-test-secret" in asked.lower()
        await exchange.answer()

    async with server(handler) as provider:
        with_user = provider.base_url.replace("http://", "http://me:hunter2@")
        named = provider_for("test", with_user, "sk-test-secret")
        assert (await call(model(named, wire))).text == "Hello"


async def test_comments_for_ever_are_no_progress(hasty: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(HEAD + b"\r\n")
        while not exchange.writer.is_closing():
            await exchange.send(b": still thinking\n\n")
            await asyncio.sleep(0.02)

    async with server(handler) as provider:
        error = await failure(model(provider, hasty))
    assert error.kind == "llm_timeout"
    assert "first token" in str(error)


async def test_an_answer_whose_end_mark_never_comes_is_complete_all_the_same(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(HEAD + b"\r\n" + event({"content": "Hello"}, "stop"))
        await exchange.request()

    async with server(handler) as provider:
        decoded = await call(model(provider, wire))
    assert (decoded.text, decoded.finish, decoded.error) == ("Hello", "stop", None)


async def test_a_slow_consumer_is_no_fault_of_the_provider(
    provider: Scripted, hasty: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[Watch] = []
    late = anyio.Event()
    check = Watch._check  # pyright: ignore[reportPrivateUsage] - tells that a deadline has passed

    def counted(watch: Watch) -> None:
        check(watch)
        checks.append(watch)
        if len(checks) == 3:
            late.set()

    monkeypatch.setattr(Watch, "_check", counted)
    await provider.script([{"text": "one two three", "gate": "rest", "gate_after": 2}])
    decoded = Decoded()
    async with aclosing(scripted(provider, hasty).stream(request())) as batches:
        decoded.take(await anext(batches))
        await late.wait()
        await provider.open("rest")
        async for pieces in batches:
            decoded.take(pieces)
    assert decoded.text == "one two three"


# --- connections ------------------------------------------------------------------------------


async def test_one_connection_serves_call_after_call(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "BODY_END", 5)
    connections: set[int] = set()

    async def handler(exchange: Exchange) -> None:
        while await exchange.request() is not None:
            connections.add(exchange.number)
            await exchange.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            await exchange.send(b"%x\r\n%b\r\n" % (len(ANSWER), ANSWER))
            await asyncio.sleep(0.01)  # the end of the body comes in a packet of its own
            await exchange.send(b"0\r\n\r\n")

    async with server(handler) as provider:
        chat = model(provider, wire)
        for _ in range(5):
            assert (await call(chat)).text == "Hello"
    assert connections == {1}


async def test_a_connection_that_died_in_the_pool_is_replaced_at_once(wire: Wire) -> None:
    served: list[int] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        served.append(exchange.number)
        await exchange.answer()
        await exchange.request()  # read, and closed without an answer

    async with server(handler) as provider:
        chat = model(provider, wire)
        for _ in range(3):
            assert (await call(chat)).text == "Hello"
    assert served == [1, 2, 3]


async def test_a_provider_that_only_hangs_up_is_asked_twice_and_no_more(wire: Wire) -> None:
    asked: list[int] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        asked.append(exchange.number)

    async with server(handler) as provider:
        error = await failure(model(provider, wire))
    assert error.retryable
    assert error.requests == 2
    assert asked == [1, 2]


@pytest.mark.parametrize("tokens", [0, 2])
async def test_cancelling_closes_the_connection(provider: Scripted, wire: Wire, tokens: int) -> None:
    await provider.script(
        [{"text": "one two three four", "fault": "hang_after" if tokens else "hang", "tokens": tokens}]
    )
    async with anyio.create_task_group() as group:
        group.start_soon(call, scripted(provider, wire))
        await provider.log(requests=1, keep=True)
        group.cancel_scope.cancel()
    (record,) = await provider.log(ended=1)
    assert record.aborted


async def test_leaving_an_answer_early_closes_the_connection(provider: Scripted, wire: Wire) -> None:
    await provider.script([{"text": "one two three", "gate": "never", "gate_after": 1}])
    async with aclosing(scripted(provider, wire).stream(request())) as batches:
        await anext(batches)
    (record,) = await provider.log(ended=1)
    assert record.aborted


async def test_a_proxy_of_the_environment_is_used() -> None:
    seen: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        asked = await exchange.request()
        assert asked is not None
        seen.append(asked.partition(b"\r\n")[0])
        await exchange.answer()

    async with server(handler) as proxy:
        wire = Wire({"HTTP_PROXY": proxy.base_url.removesuffix("/v1"), "NO_PROXY": "internal.example"})
        try:
            far = provider_for("test", "http://models.example")
            assert (await call(model(far, wire))).text == "Hello"
        finally:
            await wire.aclose()
    assert seen == [b"POST http://models.example/v1/chat/completions HTTP/1.1"]


async def test_azure_s_deployments_have_their_own_path(wire: Wire) -> None:
    seen: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        asked = await exchange.request()
        assert asked is not None
        seen.append(asked)
        await exchange.answer()

    async with server(handler) as plain:
        azure = Provider(
            name="azure",
            type="azure",
            base_url=plain.base_url.removesuffix("/v1"),
            api_key="sk-azure",
            azure_api_version="2024-10-21",
        )
        assert (await call(model(azure, wire, "my gpt"))).text == "Hello"
    line = b"POST /openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert seen[0].startswith(line)
    assert b"api-key: sk-azure" in seen[0].lower()


async def test_an_answer_without_chunks_that_ends_early_is_a_cut(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(HEAD + b"content-length: 99999\r\n\r\n" + event({"content": "Hel"}))

    async with server(handler) as provider:
        decoded = await call(model(provider, wire))
    assert decoded.text == "Hel"
    assert decoded.error is not None
    assert decoded.error.kind == "stream_incomplete"


async def test_the_end_of_the_body_is_not_waited_for(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        body = event({"content": "Hello"}, "stop") + DONE
        await exchange.send(b"%x\r\n%b\r\n" % (len(body), body))
        await exchange.request()

    async with server(handler) as provider:
        with anyio.fail_after(PATIENT.idle):
            assert (await call(model(provider, wire))).finish == "stop"


# --- other dialects ---------------------------------------------------------------------------

SYSTEM, USER = encode_system("s"), b'{"role":"user","content":"hi"}'
TOOL = b'[{"type":"function","function":{"name":"f","parameters":{"type":"object","required":["a"]}}}]'
JSON_TOOLS = ModelSettings(extra={"tool_mode": "json_schema"})
TOO_LATE = {"kind": "llm_timeout"}
FAULTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"status": 429, "headers": {"retry-after": "7"}}, {"kind": "llm_rate_limit", "retry_after": 7.0}),
    ({"status": 500}, {"kind": "llm_error", "retryable": True}),
    ({"text": "a b c", "fault": "cut_after", "tokens": 2}, {"kind": "stream_incomplete"}),
    ({"text": "a b c", "fault": "rst_after", "tokens": 2}, {"kind": "stream_incomplete"}),
    ({"fault": "garbage"}, {"retryable": True}),
    ({"fault": "empty_200"}, {"kind": "llm_empty_response"}),
    ({"text": "a b c", "fault": "bad_json_event", "tokens": 1}, {"stop_reason": "invalid_llm_response"}),
    ({"text": "a b c", "fault": "error_event", "tokens": 1}, {"retryable": True}),
    ({"text": "a b c", "fault": "hang_after", "tokens": 1}, TOO_LATE),
    ({"fault": "hang"}, TOO_LATE),
]


def dialogue(provider: Scripted, wire: Wire, kind: str) -> tuple[OpenAIChat, dict[str, Any]]:
    """Return a model that is spoken to in this dialect, and what a request to it has."""
    made = model(
        provider_for("openai", provider.base_url, "sk-test-secret"),
        wire,
        "gpt-5" if kind == "responses" else "m",
    )
    settings = JSON_TOOLS if kind == "json" else ModelSettings()
    return made, {"tools": TOOL, "settings": settings, "dialect": made.dialect(settings)}


@pytest.mark.parametrize("kind", ["chat", "responses", "json"])
@pytest.mark.parametrize(("fault", "expected"), FAULTS)
async def test_every_fault_has_the_same_class_in_every_dialect(
    provider: Scripted,
    wire: Wire,
    hasty: Wire,
    kind: str,
    fault: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    asked, how = dialogue(provider, hasty if expected == TOO_LATE else wire, kind)
    await provider.script([fault, {"text": "Well again."}])
    error = (await call(asked, SYSTEM, USER, **how)).error
    assert error is not None
    assert {key: getattr(error, key) for key in expected} == expected
    assert (await call(asked, SYSTEM, USER, **how)).text == "Well again."


@pytest.mark.parametrize("kind", ["chat", "responses", "json"])
async def test_a_call_is_the_same_call_in_every_dialect(provider: Scripted, wire: Wire, kind: str) -> None:
    asked, how = dialogue(provider, wire, kind)
    await provider.script([{"tool_calls": [{"name": "f", "arguments": {"a": "ü"}}], "chunk": 7}])
    decoded = await call(asked, SYSTEM, USER, **how)
    assert [(name, json.loads(arguments)) for _, name, arguments in decoded.calls] == [("f", {"a": "ü"})]
    assert (decoded.text, decoded.finish) == ("", "tool_calls")
    assert decoded.usage is not None


async def test_a_call_that_a_native_model_writes_as_text_changes_how_it_is_spoken_to(
    provider: Scripted, wire: Wire
) -> None:
    asked = scripted(provider, wire, "weak")
    assert asked.dialect(ModelSettings()) == CHAT
    await provider.script([{"text": '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'}])
    decoded = await call(asked, SYSTEM, USER, tools=TOOL)
    assert [call[1:] for call in decoded.calls] == [["f", '{"a": 1}']]
    assert asked.dialect(ModelSettings()).calls == "text"
