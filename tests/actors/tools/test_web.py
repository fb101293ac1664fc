"""Which way a page is fetched, and what is said where searching is not set up."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from aiohttp.abc import ResolveResult

from actors.llm.wire import Wire
from actors.public_addresses import PublicResolver
from actors.tools import pages
from actors.tools.results import ToolError
from actors.tools.web import Web
from tests.actors.tools.exa_server import KEY, Engine, engine
from tests.actors.tools.test_pages import public
from tests.actors.tools.web_pages import site


@asynccontextmanager
async def web(at: Engine | None = None, *, private: bool = False) -> AsyncGenerator[Web]:
    wire = Wire()
    key, url = (None, "http://127.0.0.1:1") if at is None else (KEY, at.url)
    with anyio.fail_after(15):
        try:
            yield Web(wire, exa_api_key=key, exa_base_url=url, private=private)
        finally:
            await wire.aclose()


async def test_without_a_key_a_search_says_what_is_missing() -> None:
    async with web() as ours:
        with pytest.raises(ToolError, match="EXA_API_KEY is not set"):
            await ours.search({"query": "tea"})


async def test_without_a_key_pages_are_fetched_from_here() -> None:
    async with site() as running, web(private=True) as ours:
        assert await ours.fetch({"url": running.page("/x", "<p>here")}) == "here"


async def test_with_a_key_public_pages_come_from_exa(monkeypatch: pytest.MonkeyPatch) -> None:
    public(monkeypatch, "public.example")
    async with engine() as at, web(at) as ours:
        found = json.loads(await ours.fetch({"url": "https://public.example/tea"}))
        assert found == {
            "title": "Tea",
            "published_date": "2026-03-31T00:00:00.000Z",
            "author": "Ada",
            "text": "All about tea.",
        }
        ((path, key, asked),) = at.asked
        assert (path, key, asked["urls"]) == ("/contents", KEY, ["https://public.example/tea"])


@pytest.mark.parametrize(("problem", "told"), [(TimeoutError(), False), (OSError("unknown name"), True)])
async def test_exa_is_told_no_name_that_a_name_service_may_still_know(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, told: bool
) -> None:
    class Resolver(PublicResolver):
        async def resolve(self, *_: object, **__: object) -> list[ResolveResult]:
            raise problem

    monkeypatch.setattr(pages, "PublicResolver", Resolver)
    async with engine() as at, web(at) as ours:
        with suppress(ToolError):
            await ours.fetch({"url": "https://wiki.corp.example/plans"})
        assert bool(at.asked) == told


@pytest.mark.parametrize(("status", "results"), [(200, []), (200, [{"url": "x", "text": ""}]), (500, [])])
async def test_what_exa_has_not_got_is_fetched_from_here(
    monkeypatch: pytest.MonkeyPatch, status: int, results: list[object]
) -> None:
    public(monkeypatch, "public.example")
    async with engine() as at, web(at) as ours, site() as running:
        at.status, at.answers["/contents"] = status, {"results": results}
        url = running.page("/x", "<p>here").replace("127.0.0.1", "public.example")
        assert await ours.fetch({"url": url}) == "here"
        assert len(at.asked) == 1


async def test_exa_is_told_no_private_address() -> None:
    async with engine() as at, site() as running:
        url = running.page("/x", "<p>here")
        async with web(at) as ours:
            for address in (url, url.replace("127.0.0.1", "localhost")):
                with pytest.raises(ToolError, match="not on the public internet"):
                    await ours.fetch({"url": address})
        assert running.asked == []
        async with web(at, private=True) as ours:
            assert await ours.fetch({"url": url}) == "here"
        assert at.asked == []


async def test_what_is_no_address_is_refused_before_exa_is_asked() -> None:
    async with engine() as at, web(at) as ours:
        with pytest.raises(ToolError, match="no http or https address"):
            await ours.fetch({"url": "tea"})
        assert at.asked == []


@pytest.mark.parametrize("host", ["a" * 64 + ".com", "a..example"])
async def test_a_name_that_no_name_service_can_know_is_an_error(host: str) -> None:
    async with engine() as at, web(at) as ours:
        at.answers["/contents"] = {"results": []}
        with pytest.raises(ToolError, match="use another page"):
            await ours.fetch({"url": f"http://{host}/"})
