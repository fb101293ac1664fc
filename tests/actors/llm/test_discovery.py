"""Model servers that are found on loopback, and what they say of their models."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from actors.errors import UnknownModelError
from actors.llm import discovery, known
from actors.llm.catalog import Catalog
from actors.llm.demo import DEMO
from actors.llm.wire import Wire
from bench.targets import free_port
from tests.actors.llm.servers import Exchange, server

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@asynccontextmanager
async def answering(pages: Mapping[str, Any]) -> AsyncGenerator[tuple[int, list[str]]]:
    """Yield the port of a server that answers these paths, and the paths it was asked for."""
    asked: list[str] = []

    async def handle(exchange: Exchange) -> None:
        while (request := await exchange.request()) is not None:
            head, _, body = request.partition(b"\r\n\r\n")
            path = head.split()[1].decode()
            asked.append(path)
            page = pages.get(path)
            if callable(page):
                page = page(json.loads(body or b"null"))
            head = JSON if page is not None else JSON.replace(b"200 OK", b"404 Not Found")
            await exchange.answer(json.dumps(page).encode(), head)

    async with server(handle) as provider:
        yield int(provider.base_url.rpartition(":")[2].partition("/")[0]), asked


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Usual ports as tests may choose them: all of them are free at first."""
    chosen: dict[str, int] = {k.name: free_port() for k in known.KNOWN if k.port is not None}

    class Ports(dict[str, int]):
        def __setitem__(self, name: str, port: int) -> None:
            super().__setitem__(name, port)
            monkeypatch.setattr(
                discovery,
                "KNOWN",
                tuple(k if k.port is None else replace(k, port=self[k.name]) for k in known.KNOWN),
            )

    mine = Ports(chosen)
    mine["ollama"] = chosen["ollama"]
    return mine


def listing(*names: str, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, **more} for name in names]}


async def handles(catalog: Catalog) -> list[str]:
    try:
        return [ref.handle for ref in await catalog.list()]
    finally:
        await catalog.aclose()


async def test_a_server_at_its_usual_port_is_found_with_its_models(ports: dict[str, int]) -> None:
    show = {
        "capabilities": ["completion"],
        "parameters": "num_ctx 8192",
        "model_info": {"gemma.context_length": 32_768},
    }
    pages = {
        "/v1/models": listing("gemma:2b", "nomic-embed", owned_by="library"),
        "/api/ps": {"models": []},
        "/api/show": lambda body: show if body == {"model": "gemma:2b"} else None,
    }
    async with answering(pages) as (port, _):
        ports["ollama"] = port
        catalog = Catalog(own_ports=())
        assert await handles(catalog) == ["ollama/gemma:2b", DEMO.handle]
        assert catalog.default == "ollama/gemma:2b"
        ref = catalog.resolve("ollama/gemma:2b").ref
        assert (ref.context_window_tokens, ref.window_source, ref.native_tools) == (8_192, "server", False)


async def test_a_server_is_what_it_says_it_is(ports: dict[str, int]) -> None:
    async with answering({"/v1/models": listing("m", owned_by="vllm", max_model_len=9_000)}) as (port, _):
        ports["llamacpp"] = port
        assert await handles(Catalog(own_ports=())) == ["vllm/m", DEMO.handle]


@pytest.mark.parametrize(
    ("pages", "asked"),
    [
        ({}, ["/v1/models"]),
        ({"/v1/models": [{"id": "agent-server", "handle": "demo/scripted"}]}, ["/v1/models"]),
        ({"/v1/models": {"data": "none"}}, ["/v1/models"]),
        ({"/v1/models": 7}, ["/v1/models"]),
    ],
)
async def test_what_answers_otherwise_is_no_model_server(
    ports: dict[str, int], pages: Mapping[str, Any], asked: list[str]
) -> None:
    async with answering(pages) as (port, seen):
        ports["vllm"] = port
        assert await handles(Catalog(own_ports=())) == [DEMO.handle]
        assert seen == asked


async def test_our_own_port_is_never_asked(ports: dict[str, int]) -> None:
    async with answering({"/v1/models": listing("m")}) as (port, seen):
        ports["vllm"] = port
        assert await handles(Catalog(own_ports={port})) == [DEMO.handle]
        assert seen == []


async def test_nothing_is_looked_for_where_it_is_switched_off(ports: dict[str, int]) -> None:
    async with answering({"/v1/models": listing("m")}) as (port, seen):
        ports["vllm"] = port
        catalog = Catalog()
        assert await handles(catalog) == [DEMO.handle]
        assert seen == []
        with pytest.raises(UnknownModelError):
            catalog.resolve("vllm/m")


async def test_a_silent_port_costs_half_a_second_at_most(ports: dict[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports["vllm"] = silent.getsockname()[1]
        wire = Wire()
        begun = asyncio.get_running_loop().time()
        assert await discovery.find(wire, but=(), ports_to_skip=()) == []
        assert asyncio.get_running_loop().time() - begun < 3 * discovery.PROBE_SECONDS
        await wire.aclose()


async def test_a_local_server_that_is_not_there_yet_can_be_named(ports: dict[str, int]) -> None:
    catalog = Catalog(own_ports=())
    model = catalog.resolve("ollama/llama3.2")
    assert model.ref.endpoint == f"http://127.0.0.1:{ports['ollama']}/v1"
    with pytest.raises(UnknownModelError):
        catalog.resolve("nobody/m")


async def test_a_server_that_leaves_lists_nothing_more(
    ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.llm.catalog.LIST_TTL", 0.0)
    catalog = Catalog(own_ports=())
    async with answering({"/v1/models": listing("m", owned_by="vllm")}) as (port, _):
        ports["vllm"] = port
        assert [ref.handle for ref in await catalog.list()] == ["vllm/m", DEMO.handle]
    ports["vllm"] = free_port()
    assert [ref.handle for ref in await catalog.list()] == [DEMO.handle]
    assert catalog.resolve("vllm/m").ref.provider == "vllm"
    await catalog.aclose()


async def test_lm_studio_and_llama_cpp_are_asked_for_details(ports: dict[str, int]) -> None:
    lm = {
        "/v1/models": listing("a", "b", owned_by="organization_owner"),
        "/api/v0/models": {
            "data": [
                {"id": "a", "type": "vlm", "max_context_length": 32_768, "loaded_context_length": 16_384},
                {"id": "b", "type": "embeddings"},
            ]
        },
    }
    cpp = {
        "/v1/models": listing("c", owned_by="llamacpp", meta={"n_ctx_train": 32_768}),
        "/props": {"default_generation_settings": {"n_ctx": 4_096}},
    }
    async with answering(lm) as (first, _), answering(cpp) as (second, _):
        ports["lmstudio"] = first
        ports["llamacpp"] = second
        catalog = Catalog(own_ports=())
        assert await handles(catalog) == ["lmstudio/a", "llamacpp/c", DEMO.handle]
        assert catalog.resolve("lmstudio/a").ref.images is True
        assert catalog.resolve("lmstudio/a").ref.context_window_tokens == 16_384
        assert catalog.resolve("llamacpp/c").ref.context_window_tokens == 4_096
