"""Azure is asked where the official client asks it, in both dialects."""

import json
from collections.abc import AsyncIterator

import pytest
from openai import AsyncAzureOpenAI

from actors.llm import http
from actors.llm.http import Endpoint, OpenAIChat, warm
from actors.llm.providers import Provider
from actors.llm.wire import Wire
from storage.records import ModelSettings
from tests.actors.llm.servers import HEAD, Exchange, server
from tests.actors.llm.streams import Decoded
from tests.actors.llm.test_http import call, model


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    await warm()
    made = Wire()
    yield made
    await made.aclose()


async def said(model: OpenAIChat) -> Decoded:
    """Make one call in the dialect that the model is written to now."""
    return await call(model, dialect=model.dialect(ModelSettings()))


def azure_at(url: str, version: str) -> Provider:
    return Provider(name="azure", type="azure", base_url=url, api_key="sk-azure", azure_api_version=version)


def official(url: str, version: str) -> AsyncAzureOpenAI:
    return AsyncAzureOpenAI(azure_endpoint=url, api_version=version, api_key="sk-azure", max_retries=0)


def line_and_key(asked: bytes) -> tuple[bytes, list[bytes]]:
    """Return the request line, and the headers that say who asks."""
    first, *headers = asked.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return first, sorted(h for h in headers if h.lower().startswith((b"api-key:", b"authorization:")))


RESPONDED = (
    b'data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,'
    b'"delta":"Hello"}\n\n'
    b'data: {"type":"response.completed","response":{"id":"r","status":"completed","output":[],'
    b'"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}}\n\n'
)


@pytest.mark.parametrize(
    ("name", "version"), [("gpt-5", "2025-04-01-preview"), ("gpt-4o-mini", "2024-10-21"), ("o3", "preview")]
)
async def test_azure_is_asked_where_the_official_client_asks_it(wire: Wire, name: str, version: str) -> None:
    seen: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        while (asked := await exchange.request()) is not None:
            seen.append(asked)
            if b"/responses?" in asked.partition(b"\r\n")[0]:
                await exchange.send(HEAD + b"content-length: %d\r\n\r\n%b" % (len(RESPONDED), RESPONDED))
            else:
                await exchange.answer()

    async with server(handler) as plain:
        url = plain.base_url.removesuffix("/v1")
        ours = model(azure_at(url, version), wire, name)
        responses = ours.dialect(ModelSettings()).api == "responses"
        assert responses == (name != "gpt-4o-mini")
        assert (await said(ours)).text == "Hello"
        async with official(url, version) as client:
            if responses:
                await client.responses.create(model=name, input="hi", stream=True)
            else:
                await client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": "hi"}], stream=True
                )
    assert len(seen) == 2
    assert line_and_key(seen[0]) == line_and_key(seen[1])
    assert json.loads(seen[0].partition(b"\r\n\r\n")[2])["model"] == name


TOO_OLD = b"Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview and later"


@pytest.mark.parametrize("words", [TOO_OLD, b"API version not supported"])
async def test_azure_without_the_responses_api_is_asked_for_chat_completions(
    wire: Wire, words: bytes
) -> None:
    asked_for: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        while (asked := await exchange.request()) is not None:
            path = asked.split(b" ")[1].partition(b"?")[0]
            asked_for.append(path)
            if path.endswith(b"/responses"):
                body = b'{"error":{"code":"BadRequest","message":"%b"}}' % words
                head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                await exchange.send(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            else:
                await exchange.answer()

    async with server(handler) as plain:
        url = plain.base_url.removesuffix("/v1")
        asked = model(azure_at(url, "2025-04-01-preview"), wire, "gpt-5")
        refused = await said(asked)
        assert refused.error is not None
        assert refused.error.learned
        assert (await said(asked)).text == "Hello"
        asked_for.clear()
        old = model(azure_at(url, "2024-10-21"), wire, "gpt-5")  # which never had it: not asked in vain
        assert (await said(old)).text == "Hello"
    assert asked_for == [b"/openai/deployments/gpt-5/chat/completions"]


async def test_deployments_that_clients_name_are_not_all_remembered(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MOST_TARGETS", 3)
    endpoint = Endpoint(azure_at("http://azure.test", "2024-10-21"), wire)
    first = await endpoint.target("/deployments/d0/chat/completions")
    for name in ("d1", "d2", "d3"):
        last = await endpoint.target(f"/deployments/{name}/chat/completions")
    assert await endpoint.target("/deployments/d3/chat/completions") is last
    assert await endpoint.target("/deployments/d0/chat/completions") is not first
