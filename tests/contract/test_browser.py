"""Our own ES module in a browser, on a page of another origin of this machine."""

from pathlib import Path

import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract import browsers
from tests.contract.cutting import at, cutting, never
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import listening

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(browsers.BROWSER is None, reason="there is no Chromium on this machine"),
]

TEXT = " ".join(f"word{n}" for n in range(40))


@pytest.mark.parametrize("code", [None, 1012, 0])
async def test_a_page_follows_a_run_whatever_becomes_of_its_connection(
    pool: Pool, provider: Provider, tmp_path: Path, code: int | None
) -> None:
    await provider.script([{"text": TEXT, "gap_ms": 10}])
    plan = never if code is None else at(b"word11", code)
    async with (
        talking(pool, provider) as served,
        listening(served.app) as server,
        cutting(server, plan) as proxy,
    ):
        agent = (await served.agent(model=MODEL))["id"]
        said = await browsers.shown("follow.html", tmp_path, server=server, sockets=proxy.url, agent=agent)
    assert "error" not in said, said
    assert (said["text"], said["gaps"], said["agents"]) == (TEXT, 0, [agent])
    assert said["offsets"] == sorted(set(said["offsets"]))
    away = [state for state, *_ in said["states"] if state == "away"]
    assert len(away) == (code is not None)
