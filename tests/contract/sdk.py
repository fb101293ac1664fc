"""The official SDK against the gateway on a real socket; every answer passes the SDK's strict validation."""

from collections.abc import Callable, Iterable

import anyio
import anyio.to_thread
from letta_client import Letta

from actors.host import HostSettings
from actors.llm.providers import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.serving import listening, serving

SECONDS = 15.0


async def with_sdk(
    pool: Pool,
    scenario: Callable[[Letta], None],
    *,
    providers: Iterable[Provider] = (),
    settings: Settings | None = None,
    api_key: str = "none",
    host_settings: HostSettings | None = None,
) -> None:
    """Run a scenario in a thread, as a program that uses the SDK would."""
    async with (
        serving(pool, providers=providers, settings=settings, host_settings=host_settings) as served,
        listening(served.app) as url,
    ):

        def run() -> None:
            with Letta(
                base_url=url, api_key=api_key, max_retries=0, timeout=10, _strict_response_validation=True
            ) as client:
                scenario(client)

        with anyio.fail_after(SECONDS):
            await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
