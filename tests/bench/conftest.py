"""What tests of the bench share: this server, started as the bench starts it, with a little effort."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import targets
from bench.case import Bench, Effort
from bench.provider import Provider
from bench.targets import Wakeful


@pytest.fixture(scope="session")
def ready() -> Iterator[tuple[Wakeful, Bench]]:
    """The server that is measured, warm, and what cases share."""
    # Not below pytest's own directory: whichever run of it begins next closes that to other users.
    home = Path(tempfile.mkdtemp(prefix="wakeful-bench-tests-"))
    targets.make_home(home)
    with Provider(bodies=False) as provider:
        target = Wakeful(home / "ours", provider)
        try:
            target.start()
            targets.warm(target)
            yield target, Bench(provider, home, Effort(runs=1, quick=True))
        finally:
            target.stop()
            shutil.rmtree(home, ignore_errors=True)
