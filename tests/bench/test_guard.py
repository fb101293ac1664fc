"""The guard: passes this server as it is, fails it with a planted loss, and says which case."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import cast

import pytest

from bench import baselines, guard, probes, targets
from bench.baselines import Baseline, Pair
from bench.probes import PROBES, Probe, Stage
from bench.provider import Provider
from bench.targets import Relay, Target, Wakeful

SLOW_SERVER = Path(__file__).with_name("slow_server.py")
PLANTED = 0.6  # more CPU per message: far enough from a fifth for so few pairs on a busy machine
STEP = tuple(probe for probe in PROBES if probe.name == "step")


@pytest.fixture
def stages(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stage, Stage]]:
    """This server as it is beside the relay, and the same with a planted loss beside the same relay."""
    monkeypatch.setattr(probes, "STEP_PAIRS", 6)
    monkeypatch.setattr(probes, "STEP_MESSAGES", 25)
    monkeypatch.setattr(guard, "ROUNDS", 2)
    monkeypatch.setattr(guard, "AGAIN", 2)
    monkeypatch.setattr(guard, "MOST_S", 400)
    home = reachable / "guard"
    targets.make_home(home)
    with ExitStack() as stack:
        provider = stack.enter_context(Provider(bodies=False))

        def start(target: Target) -> Target:
            stack.callback(target.stop)
            target.start()
            targets.warm(target)
            return target

        relay = start(Relay(home / "relay", provider))
        ours = start(Wakeful(home / "ours", provider))
        monkeypatch.setattr(targets, "serve_command", slow_command)
        slow = start(Wakeful(home / "slow", provider))
        yield Stage(ours, relay, home), Stage(slow, relay, home)


def slow_command(port: int, data_dir: Path) -> list[str]:
    command = [sys.executable, str(SLOW_SERVER), str(PLANTED), "serve"]
    return [*command, "--port", str(port), "--data-dir", str(data_dir)]


@pytest.mark.alone
@pytest.mark.timeout(400)
def test_a_planted_loss_fails_and_the_server_as_it_is_passes(stages: tuple[Stage, Stage]) -> None:
    plain, slow = stages
    baseline = guard.record(lambda: nullcontext(plain), name="test", load_before=0.0, probes=STEP)
    assert baseline.ratios.keys() == {"server_1", "postgres_1"}
    assert all(
        verdict.passed
        for verdict in baselines.judge(baseline, guard.compare(lambda: nullcontext(plain), baseline, STEP))
    )
    tries = guard.compare(lambda: nullcontext(slow), baseline, STEP)
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
    monkeypatch.setattr(guard, "compare", lambda staging, baseline: tries)
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


class Scripted:
    """Probes that give what they are told, one value a try, and how often servers were started for them."""

    def __init__(self, **ratios: list[float]) -> None:
        self.ratios = {key: iter(values) for key, values in ratios.items()}
        self.started = 0
        self.probes = [Probe(name=key, titles={key: key}, measure=self._measure(key)) for key in ratios]
        self.baseline = Baseline(
            machine_class="c",
            machine={},
            recorded_at="",
            load_before=0,
            ratios=dict.fromkeys(ratios, 1.0),
            rounds={key: [1.0] for key in ratios},
        )

    @contextmanager
    def staging(self) -> Iterator[Stage]:
        self.started += 1
        yield cast("Stage", None)

    def _measure(self, key: str) -> Callable[[Stage], probes.Pairs]:
        return lambda stage: {key: [Pair(next(self.ratios[key]), 1.0)]}


def test_only_what_failed_is_measured_again_and_each_time_on_servers_started_anew() -> None:
    always = [3.0] * (1 + guard.AGAIN)
    scripted = Scripted(server_1=[*always], token=[2.0, 1.0], frame=[1.1])
    tries = guard.compare(scripted.staging, scripted.baseline, scripted.probes)
    assert tries == {
        "server_1": pytest.approx(always),
        "token": pytest.approx([2.0, 1.0]),
        "frame": pytest.approx([1.1]),
    }
    assert scripted.started == len(always) + 2 + 1


def test_a_ratio_that_comes_within_what_is_allowed_is_no_loss_however_often_it_was_not() -> None:
    scripted = Scripted(postgres_1=[1.3, 1.25, 1.22, 1.19])
    tries = guard.compare(scripted.staging, scripted.baseline, scripted.probes)
    (verdict,) = baselines.judge(scripted.baseline, tries)
    assert verdict.passed
    assert len(verdict.tries) == 4


def test_nothing_is_measured_again_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_S", -1)
    scripted = Scripted(server_1=[3.0, 1.0])
    assert guard.compare(scripted.staging, scripted.baseline, scripted.probes) == {
        "server_1": pytest.approx([3.0])
    }


def test_a_baseline_is_recorded_as_the_guard_measures_each_probe_on_servers_of_its_own() -> None:
    scripted = Scripted(server_1=[2.0, 3.0, 2.5], token=[1.2, 1.1, 1.3])
    recorded = guard.record(scripted.staging, name="test", load_before=0.1, probes=scripted.probes)
    assert recorded.ratios == {"server_1": 2.5, "token": 1.2}
    assert recorded.rounds == {"server_1": [2.0, 3.0, 2.5], "token": [1.2, 1.1, 1.3]}
    assert recorded.own_servers
    assert scripted.started == 2 * guard.ROUNDS
    checked = Scripted(server_1=[2.0], token=[1.2])
    guard.compare(checked.staging, recorded, checked.probes)
    assert checked.started == 2


def test_a_baseline_of_servers_that_had_done_other_work_is_said_to_be_one(
    tmp_path: Path, measured: dict[str, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, server_1=2.0)
    measured |= {"server_1": [2.1]}
    guard.main(["--folder", str(tmp_path)])
    assert "had done other work before" in capsys.readouterr().out.replace("\n", " ")
