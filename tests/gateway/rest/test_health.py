"""The health routes."""

import anyio

from gateway.config import Settings
from gateway.rest.health import release
from storage.pool import Pool
from tests.serving import serving


async def test_health_needs_no_key_with_and_without_slash_and_under_latest(pool: Pool) -> None:
    async with serving(pool, settings=Settings(api_key="k")) as served:
        for path in ("/v1/health/", "/v1/health", "/latest/health", "/v1/ready/", "/latest/ready"):
            assert await served.json("GET", path) == {"version": release(), "status": "ok"}


async def test_a_draining_server_lives_but_is_not_ready(pool: Pool) -> None:
    async with serving(pool) as served:
        with anyio.fail_after(5):
            await served.host.drain()
        assert (await served.json("GET", "/v1/health/"))["status"] == "draining"
        assert (await served.json("GET", "/v1/ready/", status=503))["status"] == "draining"
