"""The guard: passes this server as it is, fails it with a planted loss, and says which case."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench import baselines, guard, probes, targets
from bench.baselines import Baseline
from bench.probes import PROBES, Stage
from bench.provider import Provider
from bench.targets import Relay, Target, Wakeful

SLOW_SERVER = Path(__file__).with_name("slow_server.py")
PLANTED = 0.6  # more CPU per message: far enough from a fifth for so few pairs on a busy machine
STEP = tuple(probe for probe in PROBES if probe.name == "step")


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stage, Stage]]:
    """This server as it is beside the relay, and the same with a planted loss beside the same relay."""
    monkeypatch.setattr(probes, "STEP_PAIRS", 6)
    monkeypatch.setattr(probes, "STEP_MESSAGES", 25)
    monkeypatch.setattr(guard, "ROUNDS", 2)
    for above in (tmp_path, *tmp_path.parents[:2]):
        targets.make_home(above)
    with ExitStack() as stack:
        provider = stack.enter_context(Provider(bodies=False))

        def start(target: Target) -> Target:
            stack.callback(target.stop)
            target.start()
            targets.warm(target)
            return target

        relay = start(Relay(tmp_path / "relay", provider))
        ours = start(Wakeful(tmp_path / "ours", provider))
        monkeypatch.setattr(targets, "serve_command", slow_command)
        slow = start(Wakeful(tmp_path / "slow", provider))
        yield Stage(ours, relay, tmp_path), Stage(slow, relay, tmp_path)


def slow_command(port: int, data_dir: Path) -> list[str]:
    command = [sys.executable, str(SLOW_SERVER), str(PLANTED), "serve"]
    return [*command, "--port", str(port), "--data-dir", str(data_dir)]


@pytest.mark.timeout(400)
def test_a_planted_loss_fails_and_the_server_as_it_is_passes(stages: tuple[Stage, Stage]) -> None:
    plain, slow = stages
    baseline = guard.record(plain, name="test", load_before=0.0, probes=STEP)
    assert baseline.ratios.keys() == {"server_1", "postgres_1"}
    assert all(verdict.passed for verdict in baselines.judge(baseline, guard.compare(plain, baseline, STEP)))
    tries = guard.compare(slow, baseline, STEP)
    (server,) = [one for one in baselines.judge(baseline, tries) if one.key == "server_1"]
    assert not server.passed
    assert len(server.tries) == 1 + guard.AGAIN


def recorded(folder: Path, **ratios: float) -> None:
    """Leave a baseline of this machine's class."""
    baselines.write(
        folder,
        Baseline(
            machine_class=guard.this_class(),
            machine={"python": "2.7.18", "commit": "abc"},
            recorded_at="2026-01-01T00:00:00+00:00",
            load_before=0.1,
            ratios=ratios,
            rounds={key: [value] for key, value in ratios.items()},
        ),
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """What the guard measures, without a server."""
    tries: dict[str, list[float]] = {}

    @contextmanager
    def staged() -> Iterator[None]:
        yield None

    monkeypatch.setattr(guard, "staged", staged)
    monkeypatch.setattr(guard, "compare", lambda stage, baseline: tries)
    return tries


def test_a_loss_is_an_exit_code_and_a_table_that_names_it(
    tmp_path: Path, measured: dict[str, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, server_1=2.0, token=1.2)
    measured |= {"server_1": [2.9, 2.8, 2.85], "token": [1.25]}
    assert guard.main(["--folder", str(tmp_path)]) == guard.LOST
    lines = capsys.readouterr().out.splitlines()
    (server,) = [line for line in lines if "server_1" in line]
    (token,) = [line for line in lines if "token " in line and "1.25" in line]
    assert all(word in server for word in ("2.9, then 2.8, then 2.85", "≤ 2.4", "FAIL"))
    assert "pass" in token
    assert any("baseline is of Python 2.7.18" in line for line in lines)


def test_nothing_lost_is_no_exit_code_and_a_new_case_is_pointed_out(
    tmp_path: Path, measured: dict[str, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, server_1=2.0)
    measured |= {"server_1": [2.1], "token": [1.25]}
    assert guard.main(["--folder", str(tmp_path)]) == 0
    assert "no baseline for token" in capsys.readouterr().out


def test_an_unknown_class_of_machine_passes_and_is_told_how_to_record_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.main(["--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert guard.this_class() in said
    assert "--update" in said


def test_only_what_failed_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ratios = {"server_1": iter([3.0, 3.0, 3.0]), "token": iter([2.0, 1.0])}

    def measure(stage: Stage, probe: probes.Probe, tries: guard.Tries) -> None:
        for key in probe.titles:
            asked.append(key)
            tries.setdefault(key, []).append(next(ratios.get(key, iter([1.0]))))

    monkeypatch.setattr(guard, "_measure", measure)
    baseline = Baseline(
        machine_class="c",
        machine={},
        recorded_at="",
        load_before=0,
        ratios=dict.fromkeys(("server_1", "postgres_1", "server_32", "token", "frame"), 1.0),
        rounds={},
    )
    tries = guard.compare(None, baseline)  # type: ignore[arg-type]
    assert tries["server_1"] == [3.0, 3.0, 3.0]
    assert tries["token"] == [2.0, 1.0]
    assert [asked.count(key) for key in ("server_1", "token", "frame", "server_32")] == [3, 2, 1, 1]
