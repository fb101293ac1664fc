"""The guard's measurements run, with few pairs, and their ratios are of a size that can be."""

from collections.abc import Iterator

import pytest

from bench import baselines, probes, targets
from bench.case import Bench
from bench.probes import PROBES, Probe, Stage
from bench.targets import Relay, Wakeful

FEW = {"STEP_PAIRS": 2, "STEP_MESSAGES": 20, "CROWD_PAIRS": 2, "PACED_PAIRS": 2}


@pytest.fixture(scope="module")
def stage(ready: tuple[Wakeful, Bench]) -> Iterator[Stage]:
    """This server, and a relay of the same provider."""
    ours, bench = ready
    relay = Relay(bench.home / "relay-of-probes", bench.provider)
    try:
        relay.start()
        targets.warm(relay)
        yield Stage(ours, relay, bench.home)
    finally:
        relay.stop()


@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_gives_the_ratios_it_names(
    probe: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FEW.items():
        monkeypatch.setattr(probes, name, value)
    found = probe.measure(stage)
    assert found.keys() == probe.titles.keys()
    for key, pairs in found.items():
        assert len(pairs) == 2
        assert all(pair.ours > 0 and pair.beside > 0 for pair in pairs)
        assert 0.1 < baselines.ratio(pairs) < 20, (key, pairs)


def test_no_two_probes_give_the_same_ratio() -> None:
    keys = [key for probe in PROBES for key in probe.titles]
    assert len(keys) == len(set(keys))
