"""What the tests of JavaScript clients share: a server behind a proxy, and how a program's words are read."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.cutting import Plan, Proxy, cutting
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import listening


@asynccontextmanager
async def proxied(pool: Pool, provider: Provider, plan: Plan) -> AsyncGenerator[tuple[Proxy, str]]:
    """Yield a proxy to a server, and an agent of it."""
    async with (
        talking(pool, provider) as served,
        listening(served.app) as url,
        cutting(url, plan) as proxy,
    ):
        yield proxy, (await served.agent(model=MODEL))["id"]


def lines(output: str) -> list[list[Any]]:
    """Return what a program said: a JSON array on each line, its first item a name."""
    return [json.loads(line) for line in output.splitlines()]


def named(said: list[list[Any]], name: str) -> list[list[Any]]:
    """Return the rest of every line of this name."""
    return [rest for first, *rest in said if first == name]
