"""L3: a step is all or nothing, wherever its host dies."""

from collections.abc import Sequence
from contextlib import suppress

import anyio
import pytest
from msgspec.structs import replace

from bench.provider import Provider
from tests.laws import checks, failpoints
from tests.laws.conftest import Databases
from tests.laws.crowd import opened
from tests.laws.failpoints import Failpoint
from tests.laws.host_process import Spec
from tests.laws.nursery import GoneError, Home, HostProcess, Nursery, RefusedError
from tests.laws.scenarios import Compact, Remember, Scenario, learn_states, scenario_for
from tests.laws.watcher import Watcher, watching

pytestmark = pytest.mark.law

AT_ONCE = 2
DIES_WITHIN = 8.0
ENDS_WITHIN = 15.0

# Points that a turn of three steps passes three times.
REPEATED = ("checkpoints.commit:", "model.stream:", "recall.search:sent")
# The second wait of a statement's first use is for its result; the first is for its plan.
EXECUTED = 2


def all_failpoints() -> list[Failpoint]:
    """Return every failpoint there is, in each step where it is passed."""
    found: list[Failpoint] = []
    for point in failpoints.points():
        times = 3 if point.startswith(REPEATED) else EXECUTED if point.endswith(":sent") else 1
        found += [Failpoint(point, nth + 1) for nth in range(times)]
    return found


async def violations(
    nursery: Nursery,
    database: Databases,
    provider: Provider,
    *,
    deaths: Sequence[Failpoint],
    planted: tuple[str, ...] = (),
    scenario: type[Scenario] | None = None,
) -> list[str]:
    """Let hosts die at these points; return what was half done then, and what was not mended afterwards.

    Without a `scenario` each point has the one that comes by it.
    """
    found: list[str] = []
    waiting = list(deaths)

    async def worker() -> None:
        dsn = await database()
        spec = Spec(dsn=dsn, provider=provider.base_url, planted=planted)
        async with watching(dsn) as watcher:
            while waiting:
                death = waiting.pop(0)
                chosen = scenario or scenario_for(death.point)
                wrong = await _die_once(home, provider, watcher, spec, death, chosen)
                found.extend(f"{death.point} ({death.nth}): {what}" for what in wrong)

    async with nursery.home() as home:
        async with anyio.create_task_group() as group:
            for _ in range(min(AT_ONCE, len(deaths))):
                group.start_soon(worker)
        found += home.crashes
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
        with anyio.move_on_after(DIES_WITHIN):
            async with anyio.create_task_group() as group:
                group.start_soon(_act, scenario, mortal)
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
        try:
            with anyio.fail_after(ENDS_WITHIN):
                await scenario.act(heir)
        except (TimeoutError, GoneError, RefusedError) as error:
            wrong.append(f"the next host did not go on: {error!r}")
        heir.kill()
        await heir.gone()
        await watcher.forgotten(heir)
        wrong += await scenario.end()
        wrong += await checks.all_is_handled(pool)
        wrong += await checks.steps_are_whole(pool)
        return wrong


async def _act(scenario: Scenario, mortal: HostProcess) -> None:
    with suppress(GoneError):
        await scenario.act(mortal)


@pytest.mark.timeout(180)
async def test_every_step_and_edit_is_whole_wherever_its_host_dies(
    nursery: Nursery, database: Databases, provider: Provider, dsn: str
) -> None:
    async with nursery.home() as home, opened(dsn) as pool:
        host = await home.start(Spec(dsn=dsn, provider=provider.base_url))
        await learn_states(pool, provider, host)
    found = await violations(nursery, database, provider, deaths=all_failpoints())
    print("\n".join(found), len(all_failpoints()))
    assert found == []


@pytest.mark.timeout(120)
async def test_blocks_and_passages_come_and_go_with_their_step(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    # A commit with more than the usual rows waits for the server again and again, between BEGIN and COMMIT.
    deaths = [Failpoint("checkpoints.commit:sent", nth) for nth in range(1, 17)]
    deaths += [Failpoint(f"checkpoints.commit:{edge}", nth) for edge in ("before", "after") for nth in (1, 2)]
    found = await violations(nursery, database, provider, deaths=deaths, scenario=Remember)
    assert found == []


@pytest.mark.timeout(120)
async def test_a_compaction_is_whole_wherever_its_host_dies(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    # One of the last messages finds the window full: its first call and commit are those of a summary.
    edges = [(at, moment) for at in ("model.stream", "checkpoints.commit") for moment in ("before", "after")]
    deaths = [Failpoint(f"{at}:{moment}", nth) for at, moment in edges for nth in (4, 5, 6)]
    deaths += [Failpoint("checkpoints.commit:sent", nth) for nth in range(5, 9)]
    found = await violations(nursery, database, provider, deaths=deaths, scenario=Compact)
    assert found == []


@pytest.mark.timeout(60)
async def test_the_law_catches_a_step_that_commits_in_two(
    nursery: Nursery, database: Databases, provider: Provider
) -> None:
    deaths = [Failpoint("planted.step_in_two:between", nth) for nth in (1, 2, 3)]
    found = await violations(nursery, database, provider, deaths=deaths, planted=("step_in_two",))
    assert any("input is stored too often" in breach for breach in found)
    assert any("belongs to no step" in breach for breach in found)
