"""L3: a step is all or nothing, wherever its host dies."""

from collections.abc import Sequence
from contextlib import suppress

import anyio
import pytest
from msgspec.structs import replace

from bench.provider import Provider
from tests.laws import checks, failpoints
from tests.laws.cancel_scenarios import CancelRun, Late
from tests.laws.conftest import Databases
from tests.laws.crossed import SCENARIOS, Scenario, scenarios_for
from tests.laws.crowd import opened
from tests.laws.edit_scenario import Edits, learn_states
from tests.laws.failpoints import Failpoint
from tests.laws.host_process import Spec
from tests.laws.nursery import GoneError, Home, HostProcess, Nursery, RefusedError
from tests.laws.scenarios import Approve, Compact, Remember, Talk
from tests.laws.watcher import Watcher, watching

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

AT_ONCE = 2
STANDS_STILL = 30.0  # seconds in which nothing gets on: a host neither dies nor ends what it has to do
LINGERS = 10.0  # once its scenario is over, a host comes by no point but those that it passes by the clock

# The second wait of a statement's first use is for its result; the first is for its plan.
EXECUTED = 2
STEPS = (1, 2, 3)


def deaths_at(*points: str, nth: Sequence[int] = (1,)) -> list[Failpoint]:
    """Return the deaths at each of these points, at each of these times of passing it."""
    return [Failpoint(point, time) for point in points for time in nth]


COMMIT = tuple(f"checkpoints.commit:{moment}" for moment in ("before", "sent", "after"))
EDGES = (COMMIT[0], COMMIT[2])
STREAM = tuple(f"model.stream:{moment}" for moment in ("before", "piece", "after"))

# What the short form kills at besides each statement: the moments around what makes things durable.
SHORT: dict[type[Scenario], list[Failpoint]] = {
    Talk: deaths_at(*COMMIT, nth=STEPS)
    + deaths_at(*STREAM, nth=(2,))
    + deaths_at("inbox.accept:before", "inbox.accept:after", "activation.activate:after"),
    Edits: deaths_at(*(f"edits.commit:{m}" for m in ("before", "inside", "closing", "after"))),
    # Its first commit waits for the server again and again, between BEGIN and COMMIT.
    Remember: deaths_at("checkpoints.commit:sent", nth=(5, 9, 13)) + deaths_at(*EDGES),
    # One of the last messages finds the window full: its first call and commit are those of a summary.
    Compact: deaths_at(*EDGES, nth=(4, 5, 6)) + deaths_at("checkpoints.commit:sent", nth=(6, 7)),
    # The commits are those of the request, of the results, and of the answer.
    Approve: deaths_at(*EDGES, nth=STEPS) + deaths_at("checkpoints.commit:sent", nth=(6, 10)),
    # Its commit comes when the cancellation was acknowledged.
    CancelRun: deaths_at("inbox.mark_cancelled:before", "inbox.mark_cancelled:after", *EDGES),
    Late: deaths_at(*EDGES, nth=(1, 2)),
}

# What the long form kills at besides every moment of each crossing.
FULL: dict[type[Scenario], list[Failpoint]] = {
    Talk: deaths_at(*COMMIT, *STREAM, "recall.search:sent", nth=STEPS),
    Remember: deaths_at("checkpoints.commit:sent", nth=range(1, 17)) + deaths_at(*EDGES, nth=(1, 2)),
    Compact: deaths_at(*EDGES, STREAM[0], STREAM[2], nth=range(4, 7))
    + deaths_at("checkpoints.commit:sent", nth=range(5, 9)),
    Approve: deaths_at(*EDGES, nth=STEPS) + deaths_at("checkpoints.commit:sent", nth=range(1, 13)),
}


def short_form(scenario: type[Scenario]) -> list[Failpoint]:
    """Return a death at each statement of the scenario, sent and never heard of, and its `SHORT` ones."""
    statements = [point for point in failpoints.points() if point.endswith(":sent")]
    mine = [point for point in statements if scenario in scenarios_for(point)]
    return _once(deaths_at(*mine, nth=(EXECUTED,)) + SHORT.get(scenario, []))


def long_form(scenario: type[Scenario]) -> list[Failpoint]:
    """Return a death at every moment of every crossing of the scenario."""
    found = list(FULL.get(scenario, []))
    for point in failpoints.points():
        if scenario in scenarios_for(point):
            found += deaths_at(point, nth=range(1, EXECUTED + 1) if point.endswith(":sent") else (1,))
    return _once(found)


def _once(deaths: list[Failpoint]) -> list[Failpoint]:
    return list(dict.fromkeys(deaths))


async def violations(
    nursery: Nursery,
    database: Databases,
    provider: Provider,
    *,
    deaths: Sequence[Failpoint],
    scenario: type[Scenario],
    planted: tuple[str, ...] = (),
) -> list[str]:
    """Let hosts die at these points; return what was half done then, and what was not mended afterwards.

    A point that the scenario does not come by is one of the breaches.
    """
    found: list[str] = []
    waiting = list(deaths)

    async def worker() -> None:
        dsn = await database()
        spec = Spec(dsn=dsn, provider=provider.base_url, planted=planted)
        async with watching(dsn) as watcher:
            while waiting:
                death = waiting.pop(0)
                wrong = await _die_once(home, provider, watcher, spec, death, scenario)
                found.extend(f"{death.point} ({death.nth}): {what}" for what in wrong)

    async with nursery.home() as home:
        async with anyio.create_task_group() as group:
            for _ in range(min(AT_ONCE, len(deaths))):
                group.start_soon(worker)
        found += home.crashes
    print(*found, sep="\n")
    return found


async def _die_once(
    home: Home,
    provider: Provider,
    watcher: Watcher,
    spec: Spec,
    death: Failpoint,
    chosen: type[Scenario],
) -> list[str]:
    """Let one host die at a point of a scenario of its own, and another one finish it."""
    async with opened(spec.dsn) as pool:
        scenario = chosen(pool, provider)
        await scenario.prepare()
        spec = replace(spec, settings=scenario.settings, planted=(*spec.planted, *scenario.planted))
        mortal = await home.start(replace(spec, failpoint=death))
        wrong: list[str] = []
        async with (
            watcher.patience(mortal, STANDS_STILL) as patience,
            anyio.create_task_group() as group,
        ):
            group.start_soon(_act, scenario, mortal, patience)
            await mortal.gone()
            group.cancel_scope.cancel()
        if not mortal.failed_by_itself:
            wrong.append(f"no host died there (status {mortal.status})")
        mortal.kill()
        await mortal.gone()
        await watcher.forgotten(mortal)
        wrong += await scenario.between()
        wrong += await checks.steps_are_whole(pool)
        heir = await home.start(spec)
        wrong += await _inherit(scenario, heir, watcher)
        heir.kill()
        await heir.gone()
        await watcher.forgotten(heir)
        wrong += await scenario.end()
        wrong += await checks.all_is_handled(pool, as_=scenario.ENDS_AS)
        wrong += await checks.steps_are_whole(pool)
        return wrong


async def _inherit(scenario: Scenario, heir: HostProcess, watcher: Watcher) -> list[str]:
    """Let a host end what the dead one began; return why it does not."""
    try:
        async with watcher.patience(heir, STANDS_STILL) as patience:
            await scenario.act(heir)
    except GoneError:
        return [f"the next host hung up: {await heir.obituary()}"]
    except RefusedError as error:
        return [f"the next host did not go on: {error!r}"]
    if patience.cancelled_caught:
        return [f"the next host got on with nothing for {STANDS_STILL:g} s"]
    return []


async def _act(scenario: Scenario, mortal: HostProcess, patience: anyio.CancelScope) -> None:
    with suppress(GoneError):
        await scenario.act(mortal)
        patience.deadline = min(patience.deadline, anyio.current_time() + LINGERS)


async def learn(nursery: Nursery, provider: Provider, dsn: str) -> None:
    """Let a host that nothing happens to teach what every edit makes of an agent."""
    async with nursery.home() as home, opened(dsn) as pool:
        host = await home.start(Spec(dsn=dsn, provider=provider.base_url))
        await learn_states(pool, provider, host)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_step_and_edit_is_whole_wherever_its_host_dies(
    nursery: Nursery, database: Databases, provider: Provider, dsn: str, scenario: type[Scenario]
) -> None:
    if scenario is Edits:
        await learn(nursery, provider, dsn)
    found = await violations(nursery, database, provider, deaths=short_form(scenario), scenario=scenario)
    assert found == []


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_step_and_edit_is_whole_at_every_moment_its_host_may_die_in(
    nursery: Nursery, database: Databases, provider: Provider, dsn: str, scenario: type[Scenario]
) -> None:
    if scenario is Edits:
        await learn(nursery, provider, dsn)
    found = await violations(nursery, database, provider, deaths=long_form(scenario), scenario=scenario)
    assert found == []


def test_both_forms_kill_at_every_crossing_of_storage() -> None:
    """A crossing that its scenario does not come by is told by that scenario's test: no host dies there."""
    every = {point.partition(":")[0] for point in failpoints.points()}
    for form in (short_form, long_form):
        assert {death.point.partition(":")[0] for s in SCENARIOS for death in form(s)} == every
    assert {death.point for s in SCENARIOS for death in long_form(s)} == set(failpoints.points())


async def test_the_law_catches_a_point_that_no_scenario_comes_by(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    deaths = deaths_at("pending.put:before")
    found = await violations(nursery, database, provider, deaths=deaths, scenario=Talk)
    assert any("no host died there" in breach for breach in found)


async def test_the_law_catches_a_statement_that_no_failpoint_knows_of(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    deaths = deaths_at("inbox.accept:before")
    planted = ("statement_beside",)
    found = await violations(nursery, database, provider, deaths=deaths, scenario=Talk, planted=planted)
    assert any("no failpoint knows of" in breach for breach in found)


@pytest.mark.timeout(180)
async def test_the_law_catches_a_cancel_that_only_this_process_knows_of(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    deaths = deaths_at("checkpoints.commit:before")
    planted = ("cancel_in_memory",)
    found = await violations(nursery, database, provider, deaths=deaths, scenario=CancelRun, planted=planted)
    assert any("acknowledged and is lost" in breach for breach in found)


@pytest.mark.timeout(180)
async def test_the_law_catches_a_step_that_commits_in_two(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    deaths = [Failpoint("planted.step_in_two:between", nth) for nth in (1, 2, 3)]
    found = await violations(
        nursery, database, provider, deaths=deaths, scenario=Talk, planted=("step_in_two",)
    )
    assert any("input is stored too often" in breach for breach in found)
    assert any("belongs to no step" in breach for breach in found)
