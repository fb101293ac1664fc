"""The routes of the documentation."""

import re

from gateway import docs
from storage.pool import Pool
from tests.serving import serving


async def test_the_pages_are_listed_and_shown_as_text_that_runs_nothing(pool: Pool) -> None:
    async with serving(pool) as served:
        index = await served.http.get("/docs")
        page = await served.http.get("/docs/settings")
        await served.json("GET", "/docs/nothing", status=404)
        await served.json("GET", "/docs/..%2F..%2Fapp", status=422)
    assert '<a href="/docs/settings">Settings</a>: Each setting is a flag and an' in index.text
    assert '<p><a href="/docs">wakeful</a></p>' in page.text
    assert "<title>Settings</title>" in page.text
    assert "<table>" in page.text
    assert "WAKEFUL_PORT" in page.text
    for response in (index, page):
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")


async def test_every_link_of_a_page_leads_somewhere(pool: Pool) -> None:
    async with serving(pool) as served:
        left, seen = ["/docs"], {"/docs"}
        while left:
            text = (await served.http.get(left.pop())).text
            for link in set(re.findall(r'href="(/[^"#]*)"', text)) - seen:
                answer = await served.http.get(link)
                assert answer.status_code == 200, link
                seen.add(link)
                if link.startswith("/docs"):
                    left.append(link)
    assert seen >= {f"/docs/{path.stem}" for path in docs.FOLDER.glob("*.md")}


async def test_the_document_is_served(pool: Pool) -> None:
    async with serving(pool) as served:
        document = await served.json("GET", "/openapi.json")
    assert document["openapi"] == "3.1.0"
    assert "/openapi.json" in document["paths"]
