"""The command that says what a load takes."""

import shutil
from pathlib import Path

import msgspec
import pytest

from bench import scale, scale_check
from bench.costs import FitError
from bench.scale_check import Check, Compared, Load
from tests.bench.recorded import RECORDED

LOAD = ["--agents", "10000", "--messages-per-second", "50", "--watchers", "2000", "--from", str(RECORDED)]


def test_a_plan_names_what_binds_and_what_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(LOAD) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "hosts, of one core each" in said
    assert "event loop binds first" in said
    assert "Several hosts do not exist in this release" in said
    assert "Redis shards are left out: nothing here uses Redis" in said
    assert "busy 60% of the time" in said
    assert "costs of bench_costs.json" in said


def test_half_a_load_is_an_error_that_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scale.main(["--agents", "5", "--from", str(RECORDED)])
    assert "--messages-per-second" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["--agents", "-1"], ["--messages-per-second", "nan"], ["--utilisation", "0"], ["--utilisation", "1.5"]],
)
def test_what_is_no_load_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        scale.main([*LOAD, *wrong])


def test_a_json_without_the_costs_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert scale.main([*LOAD[:-1], str(other)]) == 1
    assert "no JSON of `python -m bench`" in capsys.readouterr().err


def test_the_newest_json_that_has_every_figure_is_taken(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="measure them with `python -m bench"):
        scale.newest(tmp_path)
    shutil.copy(RECORDED, tmp_path / "bench-2026-01-01.json")
    shutil.copy(RECORDED, tmp_path / "bench-2026-01-02.json")
    (tmp_path / "bench-2026-01-03.json").write_text("{}")
    assert scale.newest(tmp_path).name == "bench-2026-01-02.json"


def test_a_check_is_shown_with_its_errors_in_per_cent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(costs: object, calibration_ms: object) -> Check:
        load = Load(10.0, 200, server=2.0, postgres=0.5, calibration_ms=20.0)
        demand = scale_check.demand_of(load)
        rows = (Compared("server", 1.2, 2.4, 2.0), Compared("Postgres", 0.2, 0.4, 0.5))
        return Check(demand, load, 2.0, rows)

    monkeypatch.setattr(scale_check, "check", check)
    assert scale.main(["--check", "--from", str(RECORDED)]) == 0
    said = capsys.readouterr().out
    assert "+20%" in said
    assert "-20%" in said
    assert "20 messages/s" in " ".join(said.split())


@pytest.mark.parametrize(("load_before", "code"), [(0.1, 1), (7.0, 0)])
def test_a_model_that_does_not_hold_fails_unless_its_costs_are_of_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    load_before: float,
    code: int,
) -> None:
    def check(costs: object, calibration_ms: object) -> Check:
        load = Load(10.0, 200, server=2.0, postgres=0.5, calibration_ms=20.0)
        return Check(scale_check.demand_of(load), load, 1.0, (Compared("server", 4.0, 4.0, 2.0),))

    monkeypatch.setattr(scale_check, "check", check)
    report = msgspec.json.decode(RECORDED.read_bytes())
    path = tmp_path / "costs.json"
    path.write_bytes(msgspec.json.encode(report | {"load_before": load_before, "settings": {"quick": False}}))
    assert scale.main(["--check", "--from", str(path)]) == code
    said = " ".join(capsys.readouterr().out.split())
    assert "FAIL" in said
    assert ("no verdict" in said) is (code == 0)
