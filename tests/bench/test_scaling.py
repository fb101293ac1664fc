"""The model of scaling: what must hold of its answers whatever was measured."""

import math

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from msgspec.structs import replace

from bench import scaling
from bench.costs import curve
from bench.scaling import Costs, Demand, Plan, ScalingError


def up_to(most: float) -> st.SearchStrategy[float]:
    """Nothing, or what can be measured: numbers close to zero are not exact."""
    return st.just(0.0) | st.floats(most * 1e-6, most)


SMALL = up_to(1e-4)
POINTS = st.tuples(
    st.tuples(st.floats(50, 200), st.floats(1e-4, 1e-2)),
    st.tuples(st.floats(250, 2000), st.floats(1e-4, 1e-2)),
)
FRAMES = st.tuples(st.tuples(st.just(250.0), SMALL), st.tuples(st.just(1600.0), SMALL)).map(
    lambda points: curve(*points)
)
CURVES = POINTS.map(lambda points: curve(*points))
COSTS = st.builds(
    Costs,
    message=CURVES,
    postgres_message=CURVES,
    token=CURVES,
    frame_first=FRAMES,
    frame_further=SMALL,
    history_message=up_to(1e-5),
    postgres_history_message=up_to(1e-5),
    idle=up_to(0.05),
    postgres_idle=up_to(0.05),
    memory_bytes=st.floats(5e7, 2e8),
    agent_bytes=st.floats(1e3, 1e5),
    connection_bytes=st.floats(1e3, 1e5),
    answer_seconds=st.floats(1e-3, 1e-2),
    connections_per_second=st.floats(100, 2000),
)
DEMANDS = st.builds(
    Demand,
    agents=st.integers(1, 100_000),
    messages_per_second=up_to(5000),
    watchers=st.integers(0, 100_000),
    tokens_per_message=up_to(500),
    history=up_to(2000),
    model_seconds=up_to(30),
)
MORE = st.floats(1.0, 10.0)
EXACT = 1e-9


def planned(demand: Demand, costs: Costs, utilisation: float = 0.6) -> Plan:
    try:
        return scaling.plan(demand, costs, utilisation=utilisation)
    except ScalingError:  # more hosts than the model answers with: there is nothing to compare
        reject()


def no_less(more: Plan, less: Plan) -> None:
    """Everything that costs money: what all hosts together take."""
    assert more.hosts >= less.hosts
    assert more.server_cpu >= less.server_cpu * (1 - EXACT)
    assert more.postgres_cpu >= less.postgres_cpu * (1 - EXACT)
    assert more.postgres_cores >= less.postgres_cores
    assert more.runs_at_once >= less.runs_at_once
    assert more.hot_agents >= less.hot_agents * (1 - EXACT)


@given(DEMANDS, COSTS, MORE, st.sampled_from(["messages_per_second", "tokens_per_message", "history"]))
def test_more_of_a_rate_never_takes_less(demand: Demand, costs: Costs, more: float, what: str) -> None:
    no_less(planned(replace(demand, **{what: getattr(demand, what) * more}), costs), planned(demand, costs))


@given(DEMANDS, COSTS, st.integers(0, 100_000))
def test_more_watchers_never_take_less(demand: Demand, costs: Costs, more: int) -> None:
    no_less(planned(replace(demand, watchers=demand.watchers + more), costs), planned(demand, costs))


@given(DEMANDS, COSTS, st.integers(2, 10))
def test_more_agents_with_as_many_watchers_each_never_take_less(
    demand: Demand, costs: Costs, times: int
) -> None:
    """More agents under the same watchers would mean that each message is watched by fewer."""
    more = replace(demand, agents=demand.agents * times, watchers=demand.watchers * times)
    no_less(planned(more, costs), planned(demand, costs))


@given(DEMANDS, COSTS, MORE)
def test_a_slower_model_never_takes_less(demand: Demand, costs: Costs, more: float) -> None:
    no_less(
        planned(replace(demand, model_seconds=demand.model_seconds * more), costs), planned(demand, costs)
    )


@given(DEMANDS, COSTS, st.floats(0.1, 1.0))
def test_less_headroom_never_takes_more_hosts(demand: Demand, costs: Costs, utilisation: float) -> None:
    assert planned(demand, costs).hosts <= planned(demand, costs, 0.6 * utilisation).hosts


@given(COSTS, st.integers(0, 100_000))
def test_no_load_takes_what_an_idle_server_takes(costs: Costs, agents: int) -> None:
    idle = planned(Demand(agents=agents, messages_per_second=0), costs)
    assert (idle.hosts, idle.server_cpu, idle.postgres_cpu) == (1, costs.idle, costs.postgres_idle)
    assert (idle.host_memory_bytes, idle.hot_agents, idle.runs_at_once) == (costs.memory_bytes, 0, 0)


@given(DEMANDS, COSTS, st.integers(2, 10))
def test_memory_of_connections_is_linear(demand: Demand, costs: Costs, times: int) -> None:
    def watched(watchers: int) -> float:
        return scaling.memory_bytes(replace(demand, watchers=watchers), costs, hosts=1)

    assert watched(1000 * times) - watched(0) == pytest.approx(times * (watched(1000) - watched(0)), rel=1e-6)


@given(DEMANDS, COSTS, st.integers(1, 10))
def test_frames_cost_no_less_together_the_more_messages_and_each_no_more(
    demand: Demand, costs: Costs, times: int
) -> None:
    def frames(rate: float) -> float:
        watched = replace(demand, messages_per_second=rate, watchers=3 * demand.agents)
        with_them = scaling.taken(watched, costs, hosts=1).server
        return with_them - scaling.taken(replace(watched, watchers=0), costs, hosts=1).server

    few, many = frames(10.0), frames(10.0 * times)
    assert few * (1 - 1e-6) - 1e-9 <= many <= times * few * (1 + 1e-6) + 1e-9


@given(COSTS, st.integers(2, 10))
def test_further_watchers_of_an_agent_cost_the_same_each(costs: Costs, times: int) -> None:
    def watched(watchers: int) -> float:
        demand = Demand(agents=1, messages_per_second=0.2, watchers=watchers, tokens_per_message=1000)
        events = 0.2 * (1000 + scaling.FRAMES_BESIDE)
        pings = watchers / scaling.PING_SECONDS
        first = costs.frame_first.at(events + pings) + pings * costs.frame_further
        return scaling.taken(demand, costs, hosts=1).server - first

    one = watched(1)
    assert watched(1 + times) - one == pytest.approx(times * (watched(2) - one), rel=1e-6, abs=1e-9)


@given(DEMANDS, COSTS)
def test_each_host_is_within_its_bounds_and_one_fewer_would_not_be(demand: Demand, costs: Costs) -> None:
    found = planned(demand, costs)
    assert scaling.taken(demand, costs, hosts=found.hosts).server <= 0.6
    first = found.bounds[0]
    assert found.hosts == first.hosts == max(bound.hosts for bound in found.bounds)
    if found.hosts > 1:
        within = {
            "event loop": scaling.taken(demand, costs, hosts=found.hosts - 1).server <= 0.6,
            "runs at once": first.needed <= first.per_host * (found.hosts - 1),
            "agents in memory": first.needed <= first.per_host * (found.hosts - 1),
        }
        assert not within[first.name]


@given(POINTS, up_to(1e4), up_to(1e3))
def test_a_curve_never_falls_and_a_piece_never_costs_more_at_a_higher_rate(
    points: tuple[tuple[float, float], ...], rate: float, more: float
) -> None:
    found = curve(*points)
    assert found.at(rate + more) >= found.at(rate) * (1 - EXACT)
    if rate:
        assert found.at(rate + more) / (rate + more) <= found.at(rate) / rate * (1 + EXACT)


@given(POINTS)
def test_a_curve_goes_through_nothing_and_is_never_below_what_was_measured(
    points: tuple[tuple[float, float], ...],
) -> None:
    found = curve(*points)
    assert found.at(0) == 0
    for rate, cost in points:
        assert found.at(rate) >= rate * cost * (1 - EXACT)


def test_between_two_rates_each_doubling_takes_the_same_share_off_a_piece() -> None:
    found = curve((10, 8e-3), (40, 2e-3))
    assert found.at(20) / 20 == pytest.approx(4e-3)
    assert found.at(5) / 5 == pytest.approx(8e-3)
    assert found.at(80) / 80 == pytest.approx(2e-3)


@given(DEMANDS)
def test_agents_in_memory_are_at_most_all_and_at_most_those_with_messages(demand: Demand) -> None:
    hot = scaling.hot_agents(demand)
    assert 0 <= hot <= demand.agents * (1 + EXACT)
    assert hot <= demand.messages_per_second * scaling.HOT_SECONDS * (1 + EXACT)
    assert scaling.waking_per_second(demand) <= demand.messages_per_second
    assert math.isfinite(hot)


def test_a_host_that_is_too_busy_at_rest_is_refused() -> None:
    with pytest.raises(ScalingError, match="at rest"):
        scaling.plan(Demand(agents=1, messages_per_second=1), _costs(idle=0.7), utilisation=0.6)


def _costs(*, idle: float) -> Costs:
    line = curve((100, 1e-3), (400, 1e-3))
    return Costs(
        message=line,
        postgres_message=line,
        token=line,
        frame_first=line,
        frame_further=0,
        history_message=0,
        postgres_history_message=0,
        idle=idle,
        postgres_idle=0,
        memory_bytes=1e8,
        agent_bytes=1e4,
        connection_bytes=1e4,
        answer_seconds=5e-3,
        connections_per_second=500,
    )


def test_a_plan_can_be_followed_by_hand() -> None:
    """1 ms a message: 600 a second fill a host to 60 %, and the database needs as many cores."""
    demand = Demand(agents=1000, messages_per_second=1800, tokens_per_message=0, model_seconds=0.1)
    found = scaling.plan(demand, _costs(idle=0), utilisation=0.6)
    assert (found.hosts, found.bounds[0].name, found.postgres_cores) == (3, "event loop", 3)
    assert found.server_cpu == pytest.approx(1.8)
    assert found.runs_at_once == pytest.approx(1800 * 0.105)


def test_a_slow_model_binds_the_runs_at_once() -> None:
    found = planned(
        Demand(agents=1000, messages_per_second=100, tokens_per_message=0, model_seconds=30), _costs(idle=0)
    )
    assert (found.hosts, found.bounds[0].name) == (10, "runs at once")  # 3,000.5 of 307 each
