"""What an idle server takes."""

import pytest

from bench.case import Bench
from bench.cases import idle
from bench.targets import Wakeful


@pytest.mark.timeout(60)
def test_a_server_that_is_asked_nothing_takes_little_and_something(ready: tuple[Wakeful, Bench]) -> None:
    figures = idle.CASE.measure(*ready)
    assert figures.keys() == {row.key for row in idle.CASE.rows}
    assert 0 < figures["server"] < 200  # of a thousand milliseconds; it beats and polls once a second
    assert 0 < figures["postgres"] < 200
