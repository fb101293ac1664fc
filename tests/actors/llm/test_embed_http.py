"""Embeddings over real sockets, from the scripted provider."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from actors.errors import ModelError
from actors.llm import openai_embeddings as dialect
from actors.llm.embed_http import RemoteEmbedder
from actors.llm.http import Endpoint, warm
from actors.llm.providers import Provider, provider_for
from actors.llm.wire import Wire
from bench.provider import Provider as Scripted
from bench.wire import DIMENSIONS
from tests.actors.llm.servers import Exchange, server
from tests.gateway.clocks import ManualClock, manual_clock

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
REFUSED = b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-type: application/json\r\n"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    await warm()
    made = Wire()
    yield made
    await made.aclose()


def embedder(provider: Scripted, wire: Wire, *, key: str = "sk-test-secret") -> RemoteEmbedder:
    return RemoteEmbedder(Endpoint(provider_for("test", provider.base_url, key), wire), "m")


async def failure(remote: RemoteEmbedder, *texts: str) -> ModelError:
    with pytest.raises(ModelError) as failed:
        await remote.embed(texts or ("a",))
    assert "secret" not in str(failed.value)
    return failed.value


async def pass_time(clock: ManualClock) -> None:
    """Let every wait be over as soon as it begins."""
    while True:
        await clock.advance(100)
        await anyio.sleep(0.001)


async def test_texts_become_vectors_of_length_1_in_their_order(provider: Scripted, wire: Wire) -> None:
    texts = [f"text {i}" for i in range(300)]
    remote = embedder(provider, wire)
    together = await remote.embed(texts)
    assert len({len(vector) for vector in together}) == 1
    assert len(together[0]) == DIMENSIONS
    assert all(sum(x * x for x in vector) == pytest.approx(1, abs=0.01) for vector in together[:5])
    for index in (0, 127, 128, 299):
        assert await remote.embed([texts[index]]) == [together[index]]
    records = await provider.log(requests=7)
    assert [len(record.body["input"]) for record in records] == [128, 128, 44, 1, 1, 1, 1]
    assert records[0].headers["authorization"] == "Bearer sk-test-secret"
    assert records[0].body["encoding_format"] == "base64"


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 503},
        {"status": 429, "headers": {"retry-after": "1"}},
        {"fault": "empty_200"},
        {"fault": "garbage"},
        {"fault": "cut_after", "tokens": 1},
        {"fault": "rst_after", "tokens": 0},
        {"raw": "HTTP/1.1 200 OK\r\ncontent-le"},
    ],
)
async def test_a_fault_that_passes_is_not_noticed(
    provider: Scripted, wire: Wire, reply: dict[str, Any]
) -> None:
    remote = embedder(provider, wire)
    expected = await remote.embed(["a", "b"])
    await provider.script([{**reply, "embeddings": True}])
    with manual_clock() as clock:
        async with anyio.create_task_group() as group:
            group.start_soon(pass_time, clock)
            with anyio.fail_after(15):
                assert await remote.embed(["a", "b"]) == expected
            group.cancel_scope.cancel()


async def test_a_fault_that_stays_is_named_after_three_repetitions(provider: Scripted, wire: Wire) -> None:
    await provider.script([{"status": 503, "embeddings": True, "repeat": "forever"}])
    with manual_clock() as clock:
        async with anyio.create_task_group() as group:
            group.start_soon(pass_time, clock)
            with anyio.fail_after(15):
                error = await failure(embedder(provider, wire))
            group.cancel_scope.cancel()
    assert (error.status, error.retryable) == (503, True)
    assert len(await provider.log()) == 4


async def test_a_wrong_key_is_named_at_once(provider: Scripted, wire: Wire) -> None:
    error = await failure(embedder(provider, wire, key="sk-wrong"), *(["a"] * 64))
    assert error.kind == "llm_authentication"
    assert len(await provider.log()) == 1


async def test_a_batch_that_is_refused_is_cut_until_it_is_taken(wire: Wire) -> None:
    asked: list[int] = []

    async def at_most_32(exchange: Exchange) -> None:
        while (request := await exchange.request()) is not None:
            texts = json.loads(request.partition(b"\r\n\r\n")[2])["input"]
            asked.append(len(texts))
            if len(texts) > 32:
                await exchange.answer(b'{"error":"batch size > maximum allowed batch size 32"}', REFUSED)
            else:
                data = [{"index": i, "embedding": [float(text), 1.0]} for i, text in enumerate(texts)]
                await exchange.answer(json.dumps({"data": data}).encode(), OK)

    async with server(at_most_32) as provider:
        vectors = await RemoteEmbedder(Endpoint(provider, wire), "m").embed([str(i) for i in range(100)])
    slopes = [round(x / y) for x, y in vectors]
    assert slopes == list(range(100))
    assert asked == [100, 50, 25, 25, 50, 25, 25]


async def test_a_text_that_is_refused_costs_few_requests_and_is_not_repeated(wire: Wire) -> None:
    asked: list[int] = []

    async def refuse_one(exchange: Exchange) -> None:
        while (request := await exchange.request()) is not None:
            texts = json.loads(request.partition(b"\r\n\r\n")[2])["input"]
            asked.append(len(texts))
            if "too long" in texts:
                await exchange.answer(b'{"error":{"message":"input is too long"}}', REFUSED)
            else:
                await exchange.answer(json.dumps({"data": [{"embedding": [1.0]}] * len(texts)}).encode(), OK)

    async with server(refuse_one) as provider:
        remote = RemoteEmbedder(Endpoint(provider, wire), "m")
        error = await failure(remote, *["fine"] * 31, "too long")
        assert error.status == 422
    assert asked == [32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1, 1]


async def test_a_server_that_knows_no_base64_is_asked_for_numbers(wire: Wire) -> None:
    formats: list[str | None] = []

    async def strict(exchange: Exchange) -> None:
        while (request := await exchange.request()) is not None:
            body = json.loads(request.partition(b"\r\n\r\n")[2])
            formats.append(body.get("encoding_format"))
            if "encoding_format" in body:
                await exchange.answer(b'{"detail":"extra fields not permitted"}', REFUSED)
            else:
                await exchange.answer(b'{"data":[{"embedding":[3,4]}]}', OK)

    async with server(strict) as provider:
        remote = RemoteEmbedder(Endpoint(provider, wire), "m")
        for _ in range(2):
            (vector,) = await remote.embed(["a"])
            assert vector == pytest.approx((0.6, 0.8))
    assert formats == ["base64", None, None]


async def test_a_kept_connection_that_died_is_replaced_at_once(wire: Wire) -> None:
    async def once(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.answer(b'{"data":[{"embedding":[1]}]}', OK)
        if exchange.number == 1:
            await exchange.request()  # and closes without an answer
        else:
            await exchange.request()

    async with server(once) as provider:
        remote = RemoteEmbedder(Endpoint(provider, wire), "m")
        with manual_clock():  # a wait would never end
            for _ in range(2):
                assert await remote.embed(["a"]) == [(1.0,)]


async def test_a_provider_that_is_not_there_is_named(wire: Wire) -> None:
    nobody = provider_for("test", "http://127.0.0.1:9/v1", "sk-test-secret")
    with manual_clock() as clock:
        async with anyio.create_task_group() as group:
            group.start_soon(pass_time, clock)
            error = await failure(RemoteEmbedder(Endpoint(nobody, wire), "m"))
            group.cancel_scope.cancel()
    assert "cannot be reached" in str(error)


async def test_azure_names_the_model_in_the_path(wire: Wire) -> None:
    lines: list[bytes] = []

    async def look(exchange: Exchange) -> None:
        while (request := await exchange.request()) is not None:
            lines.append(request.split(b"\r\n")[0])
            await exchange.answer(b'{"data":[{"embedding":[1]}]}', OK)

    async with server(look) as provider:
        azure = Provider(
            name="azure",
            type="azure",
            base_url=provider.base_url.removesuffix("/v1"),
            api_key="k",
            azure_api_version="2024-10-21",
        )
        await RemoteEmbedder(Endpoint(azure, wire), "my model").embed(["a"])
    assert lines == [b"POST /openai/deployments/my%20model/embeddings?api-version=2024-10-21 HTTP/1.1"]


async def test_many_long_vectors_do_not_stop_the_loop(provider: Scripted, wire: Wire) -> None:
    remote = embedder(provider, wire)
    await remote.embed(["a"])
    longest = 0.0  # that we computed without a turn of the loop; a machine that is late does not count

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.process_time()
            await anyio.sleep(0.002)
            longest = max(longest, time.process_time() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await remote.embed([f"text {i}" for i in range(4 * dialect.BATCH_TEXTS)])
        group.cancel_scope.cancel()
    assert longest < 0.1
