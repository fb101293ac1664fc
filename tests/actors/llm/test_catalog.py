"""Handles, listings and the default model."""

from collections.abc import AsyncIterator, Callable

import pytest

from actors import clock
from actors.errors import UnknownModelError
from actors.llm import catalog as catalogs
from actors.llm import discovery
from actors.llm.catalog import Catalog
from actors.llm.demo import DEMO
from actors.llm.providers import Provider, provider_for, providers_from_env
from bench.provider import Provider as Scripted
from tests.actors.llm.servers import Exchange, server
from tests.actors.llm.streams import Decoded, request
from tests.actors.test_clock import Stopped

Make = Callable[..., Catalog]
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Catalog] = []

    def catalog(*providers: Provider, **how: str) -> Catalog:
        made.append(Catalog(providers, **how))
        return made[-1]

    yield catalog
    for one in made:
        await one.aclose()


async def test_without_providers_there_is_the_demo(make: Make) -> None:
    catalog = make()
    assert await catalog.list() == [DEMO]
    assert catalog.default == "demo/scripted"
    assert catalog.resolve("demo/scripted").ref is DEMO
    assert "no language model" in DEMO.display_name


@pytest.mark.parametrize("handle", ["", "gpt-4o", "openai/", "/", "nobody/gpt-4o", "demo/other"])
def test_a_handle_that_nobody_serves_names_those_that_exist(make: Make, handle: str) -> None:
    with pytest.raises(UnknownModelError) as raised:
        make().resolve(handle)
    assert raised.value.known == ("demo/scripted",)


def test_a_configured_provider_s_models_need_not_be_listed(make: Make) -> None:
    catalog = make(provider_for("openai", "localhost:1"), provider_for("openrouter", "localhost:2"))
    ref = catalog.resolve("openai/gpt-4o-mini").ref
    assert (ref.name, ref.context_window_tokens, ref.max_output_tokens) == ("gpt-4o-mini", 128_000, 16_384)
    assert catalog.resolve("openrouter/meta-llama/llama-3-8b").ref.name == "meta-llama/llama-3-8b"
    unknown = catalog.resolve("openai/brand-new").ref
    assert (unknown.context_window_tokens, unknown.max_output_tokens) == (32_000, None)
    assert catalog.resolve("openai/gpt-4.1").ref.context_window_tokens == 128_000


def test_other_names_of_a_provider_mean_the_same(make: Make) -> None:
    catalog = make(*providers_from_env({"GEMINI_API_KEY": "k", "LMSTUDIO_BASE_URL": "localhost:1"}))
    assert catalog.resolve("gemini/gemini-2.5-flash").ref.handle == "google_ai/gemini-2.5-flash"
    assert catalog.resolve("lmstudio_openai/x").ref.provider == "lmstudio"


async def test_models_are_listed_with_the_windows_that_servers_tell(make: Make, provider: Scripted) -> None:
    await provider.list_models({"brand-new": 4_096, "gpt-huge": 9_000_000})
    catalog = make(provider_for("openai", provider.base_url))
    listed = {ref.handle: ref for ref in await catalog.list()}
    assert listed["openai/brand-new"].context_window_tokens == 4_096
    assert listed["openai/gpt-huge"].context_window_tokens == 128_000
    assert listed["openai/gpt-4o-mini"].max_output_tokens == 16_384
    assert "openai/text-embedding-3-small" not in listed
    assert list(listed)[-1] == "demo/scripted"
    assert catalog.resolve("openai/brand-new").ref.context_window_tokens == 4_096
    with pytest.raises(UnknownModelError, match="openai/brand-new"):
        catalog.resolve("nobody/x")


ANSWERS = [
    (b'[{"id": "a", "context_length": 5000}]', {"a": 5_000}),
    (b'{"data": [{"id": "models/gemini-x", "inputTokenLimit": 7000}]}', {"gemini-x": 7_000}),
    (b'{"data": [{"id": "a", "max_model_len": 6000}, {"id": "a"}]}', {"a": 6_000}),
    (b'{"data": [{"id": "a", "meta": {"n_ctx_train": 8000}}]}', {"a": 8_000}),
    (b'{"data": [{"id": "a", "context_length": -1, "context_window": true}]}', {"a": 32_000}),
    (b'{"data": [5, {"id": 5}, {"id": ""}, {}, null]}', {}),
    (b'{"data": {"id": "a"}}', {}),
    (b'"models"', {}),
    (b"<html>", {}),
]


@pytest.mark.parametrize(("body", "expected"), ANSWERS)
async def test_lists_of_every_shape_are_read(make: Make, body: bytes, expected: dict[str, int]) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.answer(body, JSON)

    async with server(handler) as provider:
        listed = await make(provider).list()
    assert {ref.name: ref.context_window_tokens for ref in listed if ref is not DEMO} == expected


async def test_a_broken_endpoint_adds_nothing_and_delays_nobody(
    make: Make, provider: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "LIST_DEADLINE", 0.2)

    async def silent(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.request()

    async with server(silent) as hung:
        good, dead = provider_for("good", provider.base_url), provider_for("dead", "127.0.0.1:1")
        names = {ref.provider for ref in await make(hung, dead, good).list()}
    assert names == {"good", "demo"}


async def test_models_are_listed_although_their_details_come_too_late(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(exchange: Exchange) -> None:
        while (asked := await exchange.request()) is not None:
            if b" /v1/models " in asked:
                await exchange.answer(b'{"data": [{"id": "llama3"}, {"id": "nomic-embed-text"}]}', JSON)

    monkeypatch.setattr(catalogs, "LIST_DEADLINE", 1.0)
    monkeypatch.setattr(discovery, "DETAIL_SECONDS", 60.0)
    async with server(handle) as found:
        catalog = make(provider_for("ollama", found.base_url))
        assert [ref.handle for ref in await catalog.list()] == ["ollama/llama3", DEMO.handle]
        assert [name for _, name in await catalog.list_embedders()] == ["nomic-embed-text"]


async def test_a_list_is_asked_for_once_a_minute(make: Make) -> None:
    asked: list[int] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.request()
        asked.append(exchange.number)
        await exchange.answer(b'{"data": [{"id": "m%d"}]}' % len(asked), JSON + b"connection: close\r\n")

    stopped = Stopped()
    before = clock.replace(stopped)
    try:
        async with server(handler) as provider:
            catalog = make(provider)
            for passed in (0, 59):
                stopped.passed = passed
                assert (await catalog.list())[0].handle == "test/m1"
            stopped.passed = 61
            assert (await catalog.list())[0].handle == "test/m2"
        stopped.passed = 200
        assert (await catalog.list())[0].handle == "test/m2", "what was listed stays while nobody answers"
    finally:
        clock.replace(before)
    assert len(asked) == 2


async def test_every_other_provider_s_name_leads_to_the_default_base_url(
    make: Make, provider: Scripted
) -> None:
    catalog = make(default_base_url=provider.root, default_api_key="sk-default")
    ref = catalog.resolve("letta/letta-free").ref
    assert (ref.handle, ref.name) == ("letta/letta-free", "letta-free")
    assert ref.endpoint == provider.base_url
    assert catalog.resolve("openai/gpt-5").ref.provider_type == "openai"
    assert "default/gpt-4o-mini" in [ref.handle for ref in await catalog.list()]
    decoded = Decoded()
    async for pieces in catalog.resolve("letta/letta-free").stream(request()):
        decoded.take(pieces)
    assert decoded.finish == "stop"
    with pytest.raises(UnknownModelError):
        catalog.resolve("demo/other")


def test_a_wrong_default_base_url_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="http"):
        Catalog(default_base_url="ftp://x")


async def test_the_default_is_the_setting_or_the_first_provider_s(make: Make, provider: Scripted) -> None:
    hosted = providers_from_env({"ANTHROPIC_API_KEY": "k", "GROQ_API_KEY": "k"})
    assert make(*hosted, default_handle="groq/x").default == "groq/x"
    assert make(*hosted).default == "anthropic/claude-haiku-4-5"
    local = make(provider_for("vllm", provider.base_url))
    assert local.default == "demo/scripted"
    await local.list()
    assert local.default == "vllm/gpt-4o-mini"


async def test_warming_loads_the_official_client(make: Make) -> None:
    await make(provider_for("vllm", "localhost:1")).warm()
    await make().warm()
