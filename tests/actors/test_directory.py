import anyio
import anyio.lowlevel
import pytest

from actors import clock, renewals
from actors.directory import Directory
from actors.errors import DrainingError
from storage import ownership
from storage.errors import OwnedError, UnavailableError
from storage.ownership import LEASE
from storage.pool import Conn, Pool
from tests.laws.watching import until


class LateClock(clock.SystemClock):
    """A clock that stands still, and can be set forward."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0
        self.started_at = super().monotonic()

    def monotonic(self) -> float:
        return self.started_at + self.ahead


@pytest.fixture
def late() -> LateClock:
    return LateClock()


async def test_a_claimed_lease_lets_its_host_act_and_names_a_fence_for_every_shard(pool: Pool) -> None:
    mine = Directory(pool, "a")
    with pytest.raises(DrainingError):
        mine.check()
    await mine.claim()
    mine.check()
    assert mine.fence(0) >= 1
    assert mine.fence(4095) >= 1


async def test_a_live_host_keeps_others_out_until_it_gives_its_lease_up(pool: Pool) -> None:
    mine, other = Directory(pool, "a"), Directory(pool, "b")
    await mine.claim()
    with pytest.raises(OwnedError):
        await other.claim()
    await mine.release()
    await other.claim()
    assert other.fence(7) > mine.fence(7)


async def test_a_lease_ends_on_the_host_s_own_clock(pool: Pool, late: LateClock) -> None:
    before = clock.replace(late)
    try:
        mine = Directory(pool, "a")
        await mine.claim()
        late.ahead = LEASE.total_seconds() - 0.5
        mine.check()
        late.ahead = LEASE.total_seconds()
        with pytest.raises(DrainingError):
            mine.check()
    finally:
        clock.replace(before)


async def test_a_host_whose_name_was_taken_over_stops_at_its_next_heartbeat(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.01)
    mine, successor = Directory(pool, "a"), Directory(pool, "a")
    await mine.claim()
    await successor.claim()
    with anyio.fail_after(15):
        await mine.keep()
    assert mine.superseded.is_set()
    with pytest.raises(DrainingError):
        mine.check()
    await mine.release()  # must not end the successor's lease
    with pytest.raises(OwnedError):
        await Directory(pool, "b").claim()


async def test_failed_renewals_are_outlasted_and_the_deadline_moves_with_the_next_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0.01)
    renew, asked = ownership.renew, 0

    async def flaky(*args: object) -> bool:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise UnavailableError("away")
        return await renew(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(ownership, "renew", flaky)
    mine = Directory(pool, "a")
    await mine.claim()
    first = mine.deadline
    async with anyio.create_task_group() as group:
        group.start_soon(mine.keep)
        await until(lambda: mine.deadline > first)
        group.cancel_scope.cancel()
    assert asked >= 4
    assert mine.deadline > first
    assert not mine.superseded.is_set()


async def test_a_lease_that_was_given_up_is_not_renewed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "HEARTBEAT", 0)
    renew, asked, go_on = ownership.renew, 0, anyio.Event()

    async def slow(conn: Conn, lease: ownership.Lease) -> bool:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return await renew(conn, lease)

    monkeypatch.setattr(ownership, "renew", slow)
    mine = Directory(pool, "a")
    await mine.claim()
    async with anyio.create_task_group() as group:
        group.start_soon(mine.keep)
        await until(lambda: asked == 1)
        group.start_soon(mine.release)
        await anyio.lowlevel.checkpoint()
        go_on.set()
    with pytest.raises(DrainingError):
        mine.check()
    await Directory(pool, "b").claim()
    assert asked == 1
    assert not mine.superseded.is_set()
