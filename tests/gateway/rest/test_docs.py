"""The routes of the documentation."""

from storage.pool import Pool
from tests.serving import serving


async def test_the_pages_are_listed_and_shown_as_text_that_runs_nothing(pool: Pool) -> None:
    async with serving(pool) as served:
        index = await served.http.get("/docs")
        page = await served.http.get("/docs/settings")
        await served.json("GET", "/docs/nothing", status=404)
        await served.json("GET", "/docs/..%2F..%2Fapp", status=422)
    assert '<a href="/docs/settings">' in index.text
    assert "<table>" in page.text
    assert "WAKEFUL_PORT" in page.text
    for response in (index, page):
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")


async def test_the_document_is_served(pool: Pool) -> None:
    async with serving(pool) as served:
        document = await served.json("GET", "/openapi.json")
    assert document["openapi"] == "3.1.0"
    assert "/openapi.json" in document["paths"]
