import pytest

from actors import commons
from actors.commons import Commons, HostSettings
from actors.llm.catalog import Catalog
from storage.pending_records import ClientTool
from storage.pool import Pool


@pytest.fixture
def shared(pool: Pool) -> Commons:
    return Commons(pool, pool, Catalog(), name="test", settings=HostSettings())


def tool(name: str, description: str = "") -> tuple[ClientTool, ...]:
    return (ClientTool(name=name, description=description),)


def test_agents_with_the_same_tools_share_them_encoded(shared: Commons) -> None:
    none = shared.toolbox((), strict=False)
    assert shared.offered(none, tool("a")) is shared.offered(none, tool("a"))
    assert shared.offered(none, tool("a")) is not shared.offered(none, tool("a", "described otherwise"))


def test_what_is_kept_of_the_tools_that_clients_bring_is_bounded(
    shared: Commons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commons, "TOOLBOX_BYTES", 10_000)
    none = shared.toolbox((), strict=False)
    first = shared.offered(none, tool("a", "x" * 6_000))
    assert shared.offered(none, tool("a", "x" * 6_000)) is first
    second = shared.offered(none, tool("b", "x" * 6_000))
    assert shared.offered(none, tool("b", "x" * 6_000)) is second, "the latest stay"
    assert shared.offered(none, tool("a", "x" * 6_000)) is not first
