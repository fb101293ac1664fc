"""Searches and pages through Exa's API, over a socket."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from actors.llm.wire import Wire
from actors.tools import exa
from actors.tools.exa import RESULT_CHARS, Exa
from actors.tools.results import ToolError
from tests.actors.tools.exa_server import FOUND, KEY, Engine, engine


@pytest.fixture
async def searched() -> AsyncGenerator[Engine]:
    async with engine() as running:
        yield running


async def search(at: Engine, **arguments: Any) -> dict[str, Any]:
    return json.loads(await call(at.url, **arguments))


async def call(url: str, **arguments: Any) -> str:
    wire = Wire()
    try:
        with anyio.fail_after(15):
            return await Exa(wire, api_key=KEY, base_url=url).search({"query": "tea", **arguments})
    finally:
        await wire.aclose()


async def refusal(url: str, **arguments: Any) -> str:
    with pytest.raises(ToolError) as refused:
        await call(url, **arguments)
    return str(refused.value)


async def test_a_search_returns_what_lettas_clients_know(searched: Engine) -> None:
    assert await search(searched) == {
        "query": "tea",
        "results": [
            {
                "title": "Tea",
                "url": "https://example.com/tea",
                "published_date": "2026-03-31T00:00:00.000Z",
                "author": "Ada",
                "highlights": ["Tea is hot."],
                "summary": "It is about tea.",
            }
        ],
    }
    ((path, key, asked),) = searched.asked
    assert (path, key) == ("/search", KEY)
    assert asked.keys() == {"query", "type", "numResults", "contents"}
    assert (asked["query"], asked["type"], asked["numResults"]) == ("tea", "auto", 10)
    assert asked["contents"].keys() == {"highlights", "summary"}


async def test_every_argument_is_passed_on(searched: Engine) -> None:
    found = await search(
        searched,
        num_results=3,
        category="research paper",
        include_text=True,
        include_domains=["arxiv.org"],
        exclude_domains=["x.com"],
        start_published_date="2026-01-01",
        end_published_date="2026-02-01",
        user_location="AT",
    )
    assert found["results"][0]["text"] == "All about tea."
    asked = searched.asked[0][2]
    assert asked["contents"].pop("text") == {"maxCharacters": RESULT_CHARS // 3}
    assert {name: value for name, value in asked.items() if name not in ("contents", "type", "query")} == {
        "numResults": 3,
        "category": "research paper",
        "includeDomains": ["arxiv.org"],
        "excludeDomains": ["x.com"],
        "startPublishedDate": "2026-01-01",
        "endPublishedDate": "2026-02-01",
        "userLocation": "AT",
    }


@pytest.mark.parametrize(("given", "asked"), [(0, 1), (-5, 1), (500, 100)])
async def test_the_number_of_results_stays_within_what_there_is(
    searched: Engine, given: int, asked: int
) -> None:
    await search(searched, num_results=given)
    assert searched.asked[0][2]["numResults"] == asked


async def test_what_is_returned_is_bounded_and_still_json(searched: Engine) -> None:
    long = {**FOUND, "text": "x" * 200_000, "summary": "y" * 200_000}
    searched.answers["/search"] = {"results": [long] * 10}
    found = await search(searched, num_results=4, include_text=True)
    assert len(found["results"]) == 4
    assert all(one["text"].endswith("... [200000 characters]") for one in found["results"])
    assert len(json.dumps(found)) < 3 * RESULT_CHARS


async def test_a_page_of_which_little_is_known_is_a_result_too(searched: Engine) -> None:
    searched.answers["/search"] = {"results": [{"url": "https://a", "title": None}]}
    assert (await search(searched))["results"] == [
        {"title": None, "url": "https://a", "published_date": None, "author": None}
    ]


async def test_an_empty_query_is_not_sent(searched: Engine) -> None:
    assert "describe what you look for" in await refusal(searched.url, query="  ")
    assert searched.asked == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "no such category: change it; change the arguments it names"),
        (401, "EXA_API_KEY"),
        (402, "no credit"),
        (403, "EXA_API_KEY"),
        (429, "wait a little"),
        (500, "try again later"),
        (302, "refuses this search"),
    ],
)
async def test_a_refusal_says_what_to_do(searched: Engine, status: int, words: str) -> None:
    searched.status = status
    searched.answers["/search"] = {"error": "no such category: change it", "tag": "INVALID"}
    assert words in await refusal(searched.url)


async def test_a_key_that_exa_repeats_is_not_shown(searched: Engine) -> None:
    searched.status = 400
    searched.answers["/search"] = {"error": f"bad request with {KEY}"}
    assert "bad request with ***" in await refusal(searched.url)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"results": 1}', b'{"results": [{"title": 5}]}'])
@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_that_makes_no_sense_is_an_error(
    searched: Engine, answer: bytes, status: int
) -> None:
    searched.status = status
    searched.answers["/search"] = answer
    assert "no search result" in (said := await refusal(searched.url)) or "no reason given" in said


async def test_an_engine_that_is_away_or_silent_is_an_error(
    searched: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be reached" in await refusal("http://127.0.0.1:1")
    monkeypatch.setattr(exa, "SECONDS", 0.3)
    searched.site.stall("/search", head=True)
    assert "did not answer within" in await refusal(searched.url)
    with anyio.fail_after(15):
        await searched.site.gone.wait()
