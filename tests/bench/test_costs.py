"""The fit of the model's costs to the JSON of a real sitting."""

from statistics import median

import msgspec
import pytest

from bench import costs, scaling
from bench.cases import CASES, paced
from bench.costs import FitError, Measured
from bench.scaling import Demand
from tests.bench.recorded import RECORDED


@pytest.fixture
def measured() -> Measured:
    """What `python -m bench` wrote for this server alone."""
    return costs.read(RECORDED.read_bytes())


def figure(measured: Measured, case: str, key: str) -> float:
    """The median of the runs, of which there are as many as the sitting had."""
    values = [run[key] for run in measured.figures[case]["ours"]]
    return median(value for value in values if value is not None)


def test_the_fit_gives_back_what_was_measured(measured: Measured) -> None:
    fitted = costs.fit(measured)
    rate = figure(measured, "crowd", "rate_32")
    assert fitted.message.at(rate) >= rate * figure(measured, "crowd", "server_32") / 1e3 * (1 - 1e-9)
    alone = 1000 / figure(measured, "step", "p50_0")
    assert fitted.message.at(alone) >= alone * figure(measured, "step", "server_0") / 1e3 * (1 - 1e-9)
    further = (200 * figure(measured, "ws_tokens", "cpu_200") - figure(measured, "ws_tokens", "cpu_1")) / 199
    assert fitted.frame_further == pytest.approx(further / 1e6)
    assert fitted.agent_bytes == figure(measured, "memory", "agent") * 1024
    assert fitted.idle == figure(measured, "idle", "server") / 1e3


@pytest.mark.parametrize("rate", paced.MESSAGES_S)
def test_messages_with_pauses_cost_what_was_measured_and_rest_is_counted_once(
    measured: Measured, rate: int
) -> None:
    """What a second of rest takes is in the figures of the case, and in the plan by itself."""
    fitted, really = costs.fit(measured), figure(measured, "paced", f"rate_{rate}")
    load = Demand(agents=rate, messages_per_second=really, tokens_per_message=0, history=0)
    taken = scaling.taken(load, fitted, hosts=1)
    assert taken.server >= really * figure(measured, "paced", f"server_{rate}") / 1e3 * (1 - 1e-9)
    assert taken.postgres >= really * figure(measured, "paced", f"postgres_{rate}") / 1e3 * (1 - 1e-9)
    assert taken.server - fitted.idle == pytest.approx(fitted.message.at(really))


def test_two_paced_watchers_cost_what_was_measured(measured: Measured) -> None:
    fitted, tokens = costs.fit(measured), figure(measured, "paced", "tokens")
    both = fitted.frame_first.at(tokens) / tokens + fitted.frame_further
    assert both >= 2 * figure(measured, "paced", "frame") / 1e6 * (1 - 1e-9)


def test_a_pause_makes_no_piece_cheaper(measured: Measured) -> None:
    """Where noise has it so, what was measured without pauses holds with them."""
    cheap = dict.fromkeys(("server_10", "postgres_10", "token", "frame"), -1.0)
    runs = [run | cheap for run in measured.figures["paced"]["ours"]]
    fitted = costs.fit(
        msgspec.structs.replace(measured, figures=measured.figures | {"paced": {"ours": runs}})
    )
    assert fitted.message.at(1) >= figure(measured, "step", "server_0") / 1e3 * (1 - 1e-9)
    assert fitted.token.at(1) >= figure(measured, "tokens", "cpu_32") / 1e6 * (1 - 1e-9)
    assert fitted.frame_first.at(1) >= figure(measured, "ws_tokens", "cpu_1") / 1e6 * (1 - 1e-9)


def test_tokens_that_did_not_come_are_not_divided_by(measured: Measured) -> None:
    """On a machine that does not keep the pace the case divides by more tokens than there were."""
    run = measured.figures["tokens"]["ours"][0]
    half = {"cpu_32": 100.0, "seen_32": 1.0, "cpu_128": 40.0, "seen_128": 0.5}
    starved = measured.figures | {"tokens": {"ours": [run | half]}}
    fitted = costs.fit(msgspec.structs.replace(measured, figures=starved))
    assert fitted.token.at(3200) == pytest.approx(3200 * 80e-6)


def test_a_plan_from_the_recorded_costs_is_of_a_sane_size(measured: Measured) -> None:
    """Costs that were read in a wrong unit would be a thousand times too large or too small."""
    demand = Demand(agents=10_000, messages_per_second=50, watchers=2000)
    plan = scaling.plan(demand, costs.fit(measured), utilisation=0.6)
    assert 0.2 < plan.server_cpu < 5
    assert 0.01 < plan.postgres_cpu < 1
    assert 1 <= plan.hosts <= 10
    assert 50 << 20 < plan.host_memory_bytes < 2 << 30
    assert 1 < plan.reconnect_seconds < 60


def test_every_figure_that_is_needed_is_one_that_a_case_gives() -> None:
    given = {(case.name, row.key) for case in CASES for row in case.rows} | {("tokens", "seen_32")}
    assert {(case, key) for case, keys in costs.NEEDED.items() for key in keys} <= given


def test_missing_figures_are_named_with_the_command_that_measures_them(measured: Measured) -> None:
    figures = {name: runs for name, runs in measured.figures.items() if name != "tokens"}
    less = msgspec.structs.replace(measured, figures=figures)
    assert costs.lacks(less) == ["tokens"]
    with pytest.raises(FitError, match=r"figures of tokens are missing; `python -m bench .*--only tokens"):
        costs.fit(less)


def test_a_run_without_a_finite_figure_counts_for_nothing(measured: Measured) -> None:
    broken = measured.figures | {"memory": {"ours": [{"warm": None, "agent": None}]}}
    assert costs.lacks(msgspec.structs.replace(measured, figures=broken)) == ["memory"]


def test_a_rate_of_nothing_is_no_figure(measured: Measured) -> None:
    run = measured.figures["tokens"]["ours"][0]
    stuck = measured.figures | {"tokens": {"ours": [run | {"seen_128": 0.0}]}}
    assert costs.lacks(msgspec.structs.replace(measured, figures=stuck)) == ["tokens"]


def test_something_else_is_no_report() -> None:
    with pytest.raises(FitError, match="no JSON of `python -m bench`"):
        costs.read(b'{"a": 1}')
