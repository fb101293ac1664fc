"""L8: without Postgres nothing is acknowledged that is not committed, and then all goes on by itself."""

import shutil
import subprocess
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path

import anyio
import pytest

from actors import clock
from actors.committer import Committer
from bench.provider import Provider
from storage.checkpoints import Checkpoint
from storage.errors import StorageError
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Message, TextPart
from tests.actors.worlds import create_agent
from tests.laws import checks
from tests.laws.crowd import BURST, Crowd, counts_nothing, opened, places
from tests.laws.faults import Fault, Server
from tests.laws.host_process import Spec
from tests.laws.nursery import Nursery
from tests.laws.watcher import watching

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

MODEL = "openai/echo-d5-g1"
WORKING_AGAIN = 5.0  # seconds after it accepts connections
SLOWNESS = 20.0  # times as long as before the fault may it take where a message alone takes a quarter second
SETTLE = 30.0
WARM = 20  # messages that clients got acknowledged before a fault


@pytest.fixture(scope="module")
def server(reachable: Path) -> Generator[Server]:
    """Yield a Postgres of this module's own."""
    server = Server(reachable / "maltreated")
    yield server
    server.embedded.stop()


@pytest.fixture
def small_server(reachable: Path) -> Generator[Server]:
    """Yield a Postgres on a small disk."""
    disk = reachable / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m,mode=711", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        server = Server(disk / "data")
        yield server
        server.embedded.stop()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def violations(
    nursery: Nursery,
    dsn: str,
    provider: Provider,
    *,
    faults: Sequence[Fault],
    through: str | None = None,
    planted: tuple[str, ...] = (),
    working_again: float = WORKING_AGAIN,
    settle: float = SETTLE,
    agents: int = 4,
    conversations: int = 2,
    burst: int = BURST,
    figures: list[str] | None = None,
) -> list[str]:
    """Let things happen to the database while clients talk; return what was lost, doubled or said wrongly.

    The host reaches it `through` another address, where one is given.
    """
    crowd, found = Crowd(burst=burst), list[str]()
    async with opened(dsn) as pool:
        *where, probe = await places(pool, agents=agents, conversations=conversations, model=MODEL)
    async with nursery.home() as home:
        host = await home.start(Spec(dsn=through or dsn, provider=provider.base_url, planted=planted))
        crowd.use(host)
        async with anyio.create_task_group() as group:
            for place in where:
                group.start_soon(crowd.talk, place)
            group.start_soon(crowd.write, probe)
            for fault in faults:
                await crowd.acknowledged(WARM)
                before = anyio.current_time()
                await crowd.hear_out(probe, await crowd.say(probe))
                allowed = max(working_again, SLOWNESS * (anyio.current_time() - before))
                await fault()
                begun = anyio.current_time()
                with anyio.move_on_after(allowed):
                    await crowd.hear_out(probe, await crowd.say(probe))
                spent = anyio.current_time() - begun
                name = getattr(fault, "__name__", str(fault))
                if spent > allowed:
                    found.append(f"{allowed:.1f} s after {name} nothing works")
                if figures is not None:
                    figures.append(f"{name}: {spent:.2f} s")
            crowd.enough.set()
            with anyio.move_on_after(settle) as scope:
                await crowd.quiet()
                async with watching(dsn) as watcher:
                    await watcher.nothing_pending()
            if scope.cancelled_caught:
                found.append(f"not everything was over {settle:g} s after the last fault")
            else:
                found += await counts_nothing(host)
            group.cancel_scope.cancel()
        if host.status is not None:
            found.append(f"the host ended with {host.status}")
        found += home.crashes
    found += crowd.wrong
    async with opened(dsn) as pool:
        found += await checks.acked_is_kept(pool, crowd.acked)
        found += await checks.edits_are_kept(pool, probe.agent_id, crowd.written)
        found += await checks.all_is_handled(pool)
        found += await checks.steps_are_whole(pool)
        found += await checks.versions_are_counted(pool)
    if figures is not None:
        figures.append(
            f"{crowd.messages} messages, {len(crowd.written)} edits, {len(crowd.refusals)} refusals"
        )
    return found


@pytest.mark.timeout(180)
async def test_nothing_is_lost_whatever_happens_to_the_database(
    nursery: Nursery, server: Server, provider: Provider
) -> None:
    figures: list[str] = []
    faults = [
        server.stop_and_start,
        server.kill_a_backend,
        server.terminate_sessions,
        server.freeze_shortly,
        server.freeze_long,
        server.kill_main_process,
    ]
    dsn = await server.database()
    found = await violations(nursery, dsn, provider, faults=faults, figures=figures)
    print(figures)
    assert found == []


@pytest.mark.timeout(240)
async def test_nothing_is_lost_when_the_disk_is_full(
    nursery: Nursery, small_server: Server, provider: Provider
) -> None:
    figures: list[str] = []
    dsn = await small_server.database()
    found = await violations(nursery, dsn, provider, faults=[small_server.fill_disk] * 2, figures=figures)
    print(figures)
    assert found == []


@pytest.mark.timeout(180)
async def test_the_law_catches_an_acknowledgement_before_the_commit(
    nursery: Nursery, server: Server, provider: Provider
) -> None:
    found = await violations(
        nursery,
        await server.database(),
        provider,
        faults=[server.kill_a_backend],
        planted=("ack_before_commit",),
        settle=3,
    )
    assert found


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_a_hundred_faults_of_the_database_lose_nothing(
    nursery: Nursery, server: Server, provider: Provider
) -> None:
    faults = [
        server.stop_and_start,
        server.kill_a_backend,
        server.terminate_sessions,
        server.freeze_shortly,
        server.kill_main_process,
    ]
    figures: list[str] = []
    found = await violations(nursery, await server.database(), provider, faults=faults * 20, figures=figures)
    print(figures)
    assert found == []


# --- many steps at once -----------------------------------------------------------------------------


async def conversations_at_once(
    nursery: Nursery, dsn: str, provider: Provider, *, planted: tuple[str, ...] = (), settle: float = SETTLE
) -> list[str]:
    """Let the conversations of one agent commit at the same time; return which of their versions are lost."""
    return await violations(
        nursery,
        dsn,
        provider,
        faults=[nothing, nothing],
        planted=planted,
        settle=settle,
        agents=1,
        conversations=9,
    )


async def nothing() -> None:
    """The fault that is none."""


@pytest.mark.timeout(180)
async def test_conversations_of_one_agent_never_lose_a_version(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    assert await conversations_at_once(nursery, dsn, provider) == []


@pytest.mark.timeout(180)
async def test_the_law_catches_two_versions_of_one_agent_in_a_batch(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    found = await conversations_at_once(
        nursery, dsn, provider, planted=("two_versions_in_a_batch",), settle=5
    )
    assert any("has version" in breach for breach in found)


# --- one guilty step among many ---------------------------------------------------------------------

Commit = Callable[[list[Checkpoint]], Awaitable[Sequence[Exception | None]]]


async def one_guilty_step(pool: Pool, commit: Commit) -> list[str]:
    """Commit 32 steps of which the database refuses one; return what became of the others."""
    steps = [await _step(pool, "a \0 is no text" if i == 13 else "fine") for i in range(32)]
    verdicts = await commit(steps)
    found = [f"step {i} ended with {v!r}" for i, v in enumerate(verdicts) if (v is None) != (i != 13)]
    async with connection(pool) as conn:
        stored = [bool(await checks.history(conn, step.agent_id)) for step in steps]
    return found + [f"step {i} is stored: {there}" for i, there in enumerate(stored) if there != (i != 13)]


async def _step(pool: Pool, text: str) -> Checkpoint:
    agent_id = await create_agent(pool, model="openai/echo")
    message = Message(
        id=clock.new_id("message"),
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent_id,
        conversation_id=agent_id,
        position=1,
        role="user",
        content=(TextPart(text),),
        created_at=clock.now(),
    )
    return Checkpoint(id=clock.new_id("ckpt"), agent_id=agent_id, fence=0, version=0, messages=(message,))


async def test_of_32_steps_only_the_one_that_is_refused_fails(pool: Pool) -> None:
    committer = Committer(pool)
    assert await one_guilty_step(pool, committer.checkpoint) == []
    await committer.close()


async def test_the_law_catches_a_refusal_that_everybody_in_the_batch_gets(pool: Pool) -> None:
    committer = Committer(pool)

    async def careless(batch: list[Checkpoint]) -> Sequence[Exception | None]:
        try:
            return await committer._commit_once(batch)
        except StorageError as error:
            return [error] * len(batch)

    assert len(await one_guilty_step(pool, careless)) == 62
    await committer.close()


@pytest.mark.timeout(180)
async def test_a_nul_of_a_model_does_not_reach_the_database(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    crowd = Crowd()
    async with opened(dsn) as pool:
        where = await places(pool, agents=2, conversations=1)
    await provider.script([{"text": "a \0 is no text", "match": where[0].conversation_id[-6:]}])
    async with nursery.home() as home:
        crowd.use(await home.start(Spec(dsn=dsn, provider=provider.base_url)))
        for place in where:
            await crowd.hear_out(place, await crowd.say(place))
        assert home.crashes == []
    async with opened(dsn) as pool, connection(pool) as conn:
        assert [checks.text_of(m) for m in await checks.history(conn, where[0].conversation_id)][1:] == [
            "a \ufffd is no text"
        ]
        assert await checks.all_is_handled(pool) == []
