"""What is kept is measured when nothing else runs."""

from collections.abc import Iterator

import pytest

from bench import quiet


def loads(monkeypatch: pytest.MonkeyPatch, values: Iterator[float]) -> list[float]:
    slept = list[float]()
    monkeypatch.setattr(quiet.os, "getloadavg", lambda: (next(values), 0.0, 0.0))
    monkeypatch.setattr(quiet.time, "sleep", slept.append)
    return slept


def test_it_waits_until_what_ran_before_is_out_of_the_average(monkeypatch: pytest.MonkeyPatch) -> None:
    said, slept = list[str](), loads(monkeypatch, iter([2.0, 1.1, 0.4]))
    assert quiet.wait(said.append) == 0.4
    assert len(slept) == 2
    assert said == ["load average 2.0: waiting until it is 0.5, for 300 s at most"]


def test_a_quiet_machine_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said, slept = list[str](), loads(monkeypatch, iter([0.2]))
    assert quiet.wait(said.append) == 0.2
    assert (said, slept) == ([], [])


def test_a_machine_that_never_is_quiet_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loads(monkeypatch, iter([3.0] * 5))
    assert quiet.wait(list[str]().append, most_s=0.0) == 3.0
