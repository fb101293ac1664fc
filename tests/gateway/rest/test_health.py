"""The health routes."""

import anyio

from gateway.config import Settings
from gateway.rest.health import release
from storage.pool import Pool
from tests.serving import serving


async def test_health_needs_no_key_with_and_without_slash_and_under_latest(pool: Pool) -> None:
    async with serving(pool, settings=Settings(api_key="k")) as served:
        for path in ("/v1/health/", "/v1/health", "/latest/health"):
            assert await served.json("GET", path) == {"version": release(), "status": "ok"}
        for path in ("/v1/ready/", "/latest/ready"):
            assert (await served.json("GET", path)).items() >= {"version": release(), "status": "ok"}.items()


async def test_readiness_tells_the_memory_of_the_embedder(pool: Pool) -> None:
    async with serving(pool) as served:
        before = (await served.json("GET", "/v1/ready/"))["embedder"]
        assert before == {"state": "stopped", "rss_bytes": 0, "pid": None, "reason": None}
        await served.host.embeddings.embed(["tea"])
        running = (await served.json("GET", "/v1/ready/"))["embedder"]
        assert (running["state"], running["rss_bytes"] > 0) == ("running", True)
        assert served.host.health().embedder.pid == running["pid"]
    assert served.host.health().embedder.pid is None


async def test_a_draining_server_lives_but_is_not_ready(pool: Pool) -> None:
    async with serving(pool) as served:
        with anyio.fail_after(15):
            await served.host.drain()
        assert (await served.json("GET", "/v1/health/"))["status"] == "draining"
        assert (await served.json("GET", "/v1/ready/", status=503))["status"] == "draining"
