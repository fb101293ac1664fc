"""The costs that tests read are recorded by one command."""

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import costs, scale, scale_record
from bench.costs import FitError
from tests.bench.recorded import RECORDED


def test_the_tests_read_what_the_command_writes_by_default() -> None:
    assert scale_record.RECORDED == RECORDED


def test_nothing_is_measured_while_something_else_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale_record.quiet, "wait", lambda _tell: 3.2)
    path = tmp_path / "costs.json"
    assert scale.main(["--record", str(path)]) == 1
    assert "load average 3.2" in capsys.readouterr().err
    assert not path.exists()


def test_what_is_recorded_has_the_same_costs_and_nothing_of_levels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, asked = tmp_path / "costs.json", list[str]()
    report = msgspec.json.decode(RECORDED.read_bytes()) | {"rows": [1], "levels": [2], "errors": []}

    def run(command: list[str], **_: Any) -> None:
        asked.extend(command)
        out = Path(command[command.index("--out") + 1])
        (out / "bench-x.json").write_bytes(msgspec.json.encode(report))

    monkeypatch.setattr(subprocess, "run", run)
    assert scale.main(["--record", str(path), "--anyway"]) == 0
    assert {asked[at + 1] for at, word in enumerate(asked) if word == "--only"} == set(costs.NEEDED)
    written = path.read_bytes()
    assert costs.fit(costs.read(written)) == costs.fit(costs.read(RECORDED.read_bytes()))
    assert msgspec.json.decode(written).keys().isdisjoint({"rows", "levels", "errors"})


def test_a_sitting_that_lacks_figures_is_not_recorded() -> None:
    report = msgspec.json.decode(RECORDED.read_bytes())
    del report["figures"]["tokens"]
    with pytest.raises(FitError, match="figures of tokens are missing"):
        scale_record.kept(msgspec.json.encode(report))
