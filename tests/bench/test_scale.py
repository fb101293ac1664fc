"""The command that says what a load takes."""

import shutil
from pathlib import Path

import msgspec
import pytest

from bench import scale, scale_check
from bench.costs import FitError
from bench.scale_check import SHAPES, Check, Compared, Load
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


def found(*compared: Compared, small: bool) -> Check:
    """What a check of one of the two loads gives."""
    shape = SHAPES[0 if small else 1]
    return Check((Load(shape=shape, seconds=10.0, messages=200, server=2.0, postgres=0.5),), compared)


def recorded(path: Path, *, load_before: float) -> Path:
    """The recorded costs, as if something had run beside them."""
    report = msgspec.json.decode(RECORDED.read_bytes())
    path.write_bytes(msgspec.json.encode(report | {"load_before": load_before, "settings": {"quick": False}}))
    return path


def test_both_loads_are_shown_with_their_errors_in_per_cent_and_what_the_sign_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(costs: object) -> list[Check]:
        above, below = Compared("server", (2.4,), (2.0,)), Compared("Postgres", (0.4,), (0.5,))
        return [found(above, small=True), found(below, small=False)]

    monkeypatch.setattr(scale_check, "check", check)
    assert scale.main(["--check", "--from", str(RECORDED)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "+20%" in said
    assert "-20%" in said
    assert "with pauses: 20 messages/s" in said
    assert "busy: 20 messages/s" in said
    assert "above zero: the model says more than the load took" in said
    assert "passes from -25% to +33%" in said


@pytest.mark.parametrize("small", [True, False])
def test_a_model_must_hold_at_both_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], small: bool
) -> None:
    def check(costs: object) -> list[Check]:
        rows = {small: Compared("server", (1.0,), (2.0,)), not small: Compared("server", (2.0,), (2.0,))}
        return [found(rows[True], small=True), found(rows[False], small=False)]

    monkeypatch.setattr(scale_check, "check", check)
    path = recorded(tmp_path / "costs.json", load_before=0.1)
    assert scale.main(["--check", "--from", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "FAIL, plans too little" in said
    assert "pass" in said


@pytest.mark.parametrize(("load_before", "code"), [(0.1, 1), (7.0, 0)])
def test_a_model_that_does_not_hold_fails_unless_its_costs_are_of_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    load_before: float,
    code: int,
) -> None:
    def check(costs: object) -> list[Check]:
        return [found(Compared("server", (4.0,), (2.0,)), small=True)]

    monkeypatch.setattr(scale_check, "check", check)
    path = recorded(tmp_path / "costs.json", load_before=load_before)
    assert scale.main(["--check", "--from", str(path)]) == code
    said = " ".join(capsys.readouterr().out.split())
    assert "FAIL, plans too much" in said
    assert ("no verdict" in said) is (code == 0)
