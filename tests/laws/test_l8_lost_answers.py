"""L8, continued: answers that are lost after COMMIT, connections that fall silent, wake-ups that get lost."""

from collections import Counter

import anyio
import pytest

from bench.provider import Provider
from storage.pool import connection
from tests.laws import checks
from tests.laws.crowd import Crowd, opened, places
from tests.laws.faults import Fault
from tests.laws.host_process import Spec
from tests.laws.nursery import Nursery
from tests.laws.proxy import proxying
from tests.laws.test_l8_database_down import MODEL, SETTLE, violations
from tests.laws.watcher import watching

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

SILENCE = 30.0  # seconds in which every connection that says nothing must have been given up

# --- the connection breaks after COMMIT -------------------------------------------------------------

LOST = ("commit_step", "commit_steps", "insert into inbox", "commit_step(", "insert into inbox")


async def lost_answers(
    nursery: Nursery, dsn: str, provider: Provider, *, planted: tuple[str, ...] = (), settle: float = SETTLE
) -> list[str]:
    """Lose the answers to commits while clients talk; return what was repeated or left open because of it."""
    await provider.reset()
    async with proxying(dsn) as proxy:

        def losing(words: str) -> Fault:
            async def lose() -> None:
                with anyio.fail_after(SETTLE):
                    await proxy.lose_answer(words).wait()

            return lose

        found = await violations(
            nursery,
            dsn,
            provider,
            through=proxy.dsn,
            faults=[losing(words) for words in LOST],
            burst=1,  # every run has a client that waits for its end
            planted=planted,
            settle=settle,
        )
    asked = Counter(record.user_text for record in await provider.log())
    found += [f"the model was asked {times} times: {text}" for text, times in asked.items() if times > 1]
    async with opened(dsn) as pool, connection(pool) as conn:
        again = await conn.fetchval("select count(*) from runs where attempt > 1")
    return [*found, f"{again} runs were begun again"] if again else found


@pytest.mark.timeout(240)
async def test_a_commit_whose_answer_is_lost_is_found_out_and_not_repeated(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    assert await lost_answers(nursery, dsn, provider) == []


@pytest.mark.timeout(240)
async def test_the_law_catches_a_commit_that_is_repeated_blindly(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    found = await lost_answers(nursery, dsn, provider, planted=("blind_retry",), settle=3)
    assert any("the model was asked 2 times" in breach for breach in found), found


# --- the network swallows what is sent --------------------------------------------------------------


@pytest.mark.timeout(240)
async def test_connections_that_fall_silent_are_given_up(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    figures: list[str] = []
    async with proxying(dsn) as proxy:

        async def stall() -> None:
            proxy.stall()

        found = await violations(
            nursery,
            dsn,
            provider,
            through=proxy.dsn,
            faults=[stall],
            working_again=SILENCE,
            settle=SILENCE,
            figures=figures,
        )
    print(figures)
    assert found == []


@pytest.mark.timeout(240)
async def test_a_statement_that_is_never_said_to_the_end_lets_go_of_its_locks(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    async with proxying(dsn) as proxy:

        async def fall_silent_inside() -> None:
            with anyio.fail_after(SETTLE):
                await proxy.stall_inside("commit_step").wait()

        found = await violations(
            nursery,
            dsn,
            provider,
            through=proxy.dsn,
            faults=[fall_silent_inside],
            working_again=SILENCE,
            settle=SILENCE,
        )
    assert found == []


# --- wake-ups that get lost -------------------------------------------------------------------------


async def lost_wakeups(
    nursery: Nursery, dsn: str, provider: Provider, *, planted: tuple[str, ...] = (), settle: float = SETTLE
) -> list[str]:
    """Let no actor hear of its commands; return those that are not handled by and by."""
    crowd, found = Crowd(), list[str]()
    async with opened(dsn) as pool:
        where = await places(pool, agents=2, conversations=1, model=MODEL)
    async with nursery.home() as home, watching(dsn) as watcher:
        spec = Spec(dsn=dsn, provider=provider.base_url, planted=("lost_wakeups", *planted))
        crowd.use(await home.start(spec))
        for place in where * 2:  # the second ones find their agents awake
            await crowd.say(place)
            with anyio.move_on_after(settle) as scope:
                await watcher.nothing_pending()
            if scope.cancelled_caught:
                found.append(f"a command waits {settle:g} s after its wake-up was lost")
        found += home.crashes
    async with opened(dsn) as pool:
        return found + crowd.wrong + await checks.acked_is_kept(pool, crowd.acked)


@pytest.mark.timeout(180)
async def test_a_lost_wake_up_costs_a_second_and_no_message(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    assert await lost_wakeups(nursery, dsn, provider, settle=10) == []


@pytest.mark.timeout(180)
async def test_the_law_catches_lost_wake_ups_that_nobody_looks_for(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    found = await lost_wakeups(nursery, dsn, provider, planted=("no_poll",), settle=2)
    assert any("after its wake-up was lost" in breach for breach in found)
