"""Baselines of the guard, and what passes beside them."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import baselines
from bench.baselines import LOSS, NOISE, Baseline, Pair

AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n"
RATIOS = st.floats(0.1, 10)


def baseline(**ratios: float) -> Baseline:
    return Baseline(
        machine_class="amd-2-x86_64",
        machine={"python": "3.11.7", "commit": "abc"},
        recorded_at="2026-01-01T00:00:00+00:00",
        load_before=0.1,
        ratios=ratios,
        rounds={key: [value] for key, value in ratios.items()},
    )


@given(RATIOS, st.lists(RATIOS, min_size=1, max_size=3))
def test_a_case_fails_only_where_every_try_is_beyond_what_is_allowed(then: float, tries: list[float]) -> None:
    (verdict,) = baselines.judge(baseline(a=then), {"a": tries})
    assert verdict.passed == any(value <= then * (1 + LOSS) for value in tries)


def test_a_fifth_more_passes_and_a_little_beyond_it_does_not() -> None:
    same, most, more = baselines.judge(baseline(a=2, b=2, c=2), {"a": [2.0], "b": [2.4], "c": [2.41]})
    assert (same.passed, most.passed, more.passed) == (True, True, False)
    assert most.allowed == pytest.approx(2.4)


def test_what_the_same_code_measured_once_is_no_loss() -> None:
    spread = msgspec.structs.replace(baseline(a=2.0), rounds={"a": [1.9, 2.0, 2.6]})
    least = 2.6 * (1 + NOISE)
    for ratio, passed in ((2.6, True), (least, True), (least + 0.01, False)):
        (verdict,) = baselines.judge(spread, {"a": [ratio]})
        assert verdict.allowed == pytest.approx(least)
        assert verdict.passed == passed


def test_a_case_without_a_baseline_asks_nothing() -> None:
    (verdict,) = baselines.judge(baseline(a=1), {"new": [99.0]})
    assert (verdict.passed, verdict.allowed, verdict.improved) == (True, None, False)


def test_what_is_much_better_every_time_is_named() -> None:
    found = baselines.judge(baseline(a=2, b=2), {"a": [1.6], "b": [1.6, 1.9]})
    assert [verdict.improved for verdict in found] == [True, False]


@given(st.lists(RATIOS, min_size=4, max_size=12), st.floats(0.1, 10), st.floats(1, 1000))
def test_one_disturbed_pair_does_not_decide(ratios: list[float], speed: float, disturbance: float) -> None:
    """However wrong one pair is, the ratio stays among those of the others; the machine's speed cancels."""
    pairs = [Pair(ratio * speed, speed) for ratio in ratios]
    disturbed = baselines.ratio([*pairs, Pair(disturbance, 1)])
    assert min(ratios) * (1 - 1e-9) <= disturbed <= max(ratios) * (1 + 1e-9)


def test_the_class_is_maker_cores_and_architecture() -> None:
    assert baselines.machine_class(AMD, cores=2, architecture="x86_64") == "authenticamd-2-x86_64"
    assert baselines.machine_class(ARM, cores=8, architecture="aarch64") == "0x41-8-aarch64"
    assert baselines.machine_class("", cores=1, architecture="riscv64") == "unknown-1-riscv64"


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    recorded = baseline(server_1=2.1, token=1.2)
    path = baselines.write(tmp_path / "new", recorded)
    assert path.name == "amd-2-x86_64.json"
    assert baselines.read(tmp_path / "new", "amd-2-x86_64") == recorded
    assert baselines.read(tmp_path / "new", "other") is None


def test_the_committed_baselines_have_every_key_and_say_what_they_are_of() -> None:
    from bench.probes import PROBES

    keys = {key for probe in PROBES for key in probe.titles}
    for path in baselines.FOLDER.glob("*.json"):
        found = baselines.read(baselines.FOLDER, path.stem)
        assert found is not None
        assert found.machine_class == path.stem
        assert found.ratios.keys() == found.rounds.keys() == keys
        assert {"cpu", "cores", "python", "commit"} <= found.machine.keys()
