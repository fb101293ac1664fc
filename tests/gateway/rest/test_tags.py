"""The route of tags."""

from storage.pool import Pool
from tests.serving import serving


async def test_tags_page_by_themselves(pool: Pool) -> None:
    async with serving(pool) as served:
        await served.agent(model="demo/scripted", tags=["a", "b", "c"])
        assert await served.json("GET", "/v1/tags/") == ["a", "b", "c"]
        assert await served.json("GET", "/v1/tags", params={"after": "a", "limit": 1}) == ["b"]
        assert await served.json("GET", "/v1/tags", params={"after": "a", "before": "c"}) == ["b"]
        assert await served.json("GET", "/v1/tags", params={"before": "c", "limit": 1}) == ["b"]
        assert await served.json("GET", "/v1/tags", params={"order": "desc", "before": "a"}) == ["c", "b"]
        await served.json("GET", "/v1/tags", params={"order_by": "age"}, status=422)
        await served.json("GET", "/v1/tags", params={"limit": 0}, status=422)
