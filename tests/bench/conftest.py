"""What tests of the bench share: this server, started as the bench starts it, with a little effort."""

from collections.abc import Iterator

import pytest

from bench import targets
from bench.case import Bench, Effort
from bench.provider import Provider
from bench.targets import Wakeful


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Wakeful, Bench]]:
    """The server that is measured, warm, and what cases share."""
    home = tmp_path_factory.mktemp("bench")
    for above in (home, *home.parents[:2]):
        targets.make_home(above)
    with Provider(bodies=False) as provider:
        target = Wakeful(home / "ours", provider)
        try:
            target.start()
            targets.warm(target)
            yield target, Bench(provider, home, Effort(runs=1, quick=True))
        finally:
            target.stop()
