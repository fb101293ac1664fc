"""The scripted model provider as fixtures: one process for the session, fresh for every test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from bench.provider import Provider


@pytest.fixture(scope="session")
def provider_process() -> Iterator[Provider]:
    """The provider's process, shared by the session."""
    with Provider() as provider:
        yield provider


@pytest.fixture
async def provider(provider_process: Provider) -> AsyncIterator[Provider]:
    """A provider that remembers nothing of other tests; its `base_url` is what `OPENAI_BASE_URL` shall be."""
    await provider_process.reset()
    yield provider_process
    await provider_process.reset()
