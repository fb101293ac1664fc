"""The fit of the model's costs to the JSON of a real sitting."""

from statistics import median

import msgspec
import pytest

from bench import costs, scaling
from bench.cases import CASES
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
    two_hundred = fitted.frame_first + 199 * fitted.frame_further
    assert two_hundred == pytest.approx(200 * figure(measured, "ws_tokens", "cpu_200") / 1e6)
    assert fitted.agent_bytes == figure(measured, "memory", "agent") * 1024
    assert fitted.idle == figure(measured, "idle", "server") / 1e3


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
