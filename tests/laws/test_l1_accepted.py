"""L1: what was acknowledged survives any crash and is handled once, in order."""

import re
from collections import Counter, deque
from random import Random

import anyio
import pytest
from msgspec.structs import replace

from bench.provider import Provider
from tests.laws import checks, failpoints
from tests.laws.crowd import Crowd, counts_nothing, opened, places
from tests.laws.failpoints import Failpoint
from tests.laws.host_process import Spec
from tests.laws.nursery import Home, HostProcess, Nursery
from tests.laws.watcher import LOOK, Watcher, watching

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

MODEL = "openai/echo-d10-g3"
SETTLE = 30.0  # seconds after the last kill in which every run must end
ACK_P99 = 5.0
LONGEST_LIFE = 0.35  # seconds, at random; a host is ready after about 0.1 where nothing else runs
UNREADY = 0.3  # of the hosts that are killed at random die before they are ready, however slow the machine
POINT_WAIT = 2.0  # longest lives in which a failpoint must be reached, else the host is killed all the same

# The crossings on the path of a message. L3 dies at every other one as well.
PATH = (
    "ownership.claim",
    "inbox.accept",
    "inbox.pending",
    "activation.activate",
    "activation.window",
    "checkpoints.commit",
    "model.stream",
)


class Kills:
    """Starts hosts of one name and kills them, one after the other."""

    def __init__(
        self,
        home: Home,
        crowd: Crowd,
        watcher: Watcher,
        spec: Spec,
        *,
        points: list[str],
        patience: float | None,
    ) -> None:
        self._home = home
        self._crowd = crowd
        self._watcher = watcher
        self._spec = spec
        self._random = Random(len(points))
        self._points = deque(Failpoint(point) for point in points)
        self._patience = patience
        self._longest = LONGEST_LIFE
        self._lives: list[float] = []
        self.at: Counter[str] = Counter()

    @property
    def slowness(self) -> float:
        """How many times as long hosts have to live here as where nothing else runs: 1 or more."""
        return sum(self._lives) / len(self._lives) / LONGEST_LIFE if self._lives else 1.0

    async def kill(self, number: int) -> None:
        """Start one more host and let it die: at a point, at random, or after some progress.

        The rule of dead letters gives a command three lives. What two lives could not finish must be
        finished in the third, so that only a bug of the host ever parks a command here.
        """
        self._lives.append(self._longest)
        tired = await self._watcher.most_lives() >= 2
        failpoint = self._points.popleft() if number % 2 and not tired else None
        host = await self.start(failpoint)
        if tired:
            await self._progress()
        if failpoint is not None:
            with anyio.move_on_after(self._patience or POINT_WAIT * self._longest):
                await host.gone()
        else:
            await anyio.sleep(self._random.uniform(0, self._longest))
            self._pace(ready=bool(host.port))
        host.kill()
        await host.gone()
        await self._watcher.forgotten(host)
        self.at[failpoint.point if failpoint is not None and host.failed_by_itself else "random"] += 1
        if failpoint is not None:
            self._come_again(failpoint, hit=host.failed_by_itself)

    def _pace(self, *, ready: bool) -> None:
        """Let hosts live longer where too few of them come to be ready: a dead one acknowledges nothing."""
        step = 1.05
        self._longest = max(
            LONGEST_LIFE, self._longest * (step**-UNREADY if ready else step ** (1 - UNREADY))
        )

    def _come_again(self, failpoint: Failpoint, *, hit: bool) -> None:
        """Queue a point again: another time where it was hit, else the next time it is reached."""
        if hit:
            self._points.append(replace(failpoint, nth=self._random.randint(1, 3)))
        else:
            self._points.insert(1, replace(failpoint, nth=1))

    async def start(self, failpoint: Failpoint | None = None) -> HostProcess:
        """Start a host and let the clients talk to it."""
        host = await self._home.start(replace(self._spec, failpoint=failpoint))
        self._crowd.use(host)
        return host

    async def _progress(self) -> None:
        with anyio.move_on_after(SETTLE):
            while await self._watcher.most_lives() >= 2:
                await anyio.sleep(LOOK)
            return
        left, crashes = await self._watcher.left(), self._home.crashes[:3]
        raise AssertionError(
            f"a host finished not even the oldest commands in {SETTLE:g} s: {left}, {crashes}"
        )


async def violations(
    nursery: Nursery,
    dsn: str,
    provider: Provider,
    *,
    kills: int,
    points: list[str] | None = None,
    patience: float | None = None,
    planted: tuple[str, ...] = (),
    settle: float = SETTLE,
    figures: dict[str, object] | None = None,
) -> list[str]:
    """Kill hosts while clients talk; return what was lost, doubled, disordered or left unfinished.

    A host has `patience` seconds to come to its point, by default about as long as other hosts live.
    """
    crowd = Crowd()
    found: list[str] = []
    async with opened(dsn) as pool:
        where = await places(pool, agents=4, conversations=2, model=MODEL)
    async with nursery.home() as home, watching(dsn) as watcher:
        spec = Spec(dsn=dsn, provider=provider.base_url, planted=planted)
        killer = Kills(home, crowd, watcher, spec, points=points or path_points(), patience=patience)
        async with anyio.create_task_group() as group:
            for place in where:
                group.start_soon(crowd.talk, place)
            for number in range(kills):
                await killer.kill(number)
            last = await killer.start()
            crowd.enough.set()
            if not await _settled(watcher, crowd, settle):
                found.append(f"not everything was over {settle:g} s after the last kill")
            else:
                found += await counts_nothing(last)
            group.cancel_scope.cancel()
        found += home.crashes
    found += crowd.wrong
    async with opened(dsn) as pool:
        found += await checks.acked_is_kept(pool, crowd.acked)
        found += await checks.all_is_handled(pool)
        found += await checks.steps_are_whole(pool)
        found += await checks.versions_are_counted(pool)
    # An acknowledgement waits for a host that comes to be ready, which takes as long as the machine is slow.
    if (slow := crowd.slowest(0.99)) > ACK_P99 * killer.slowness:
        found.append(f"acknowledgements took {slow:.1f} s at the 99th percentile")
    if figures is not None:
        figures |= {"kills": dict(killer.at), "messages": crowd.messages, "ack p99": f"{slow:.2f} s"}
        figures["slowness"] = f"{killer.slowness:.2f}"
        print(figures)
    return found


async def _settled(watcher: Watcher, crowd: Crowd, seconds: float) -> bool:
    """Wait until every client heard the end of what it sent and nothing is pending; say whether it came."""
    with anyio.move_on_after(seconds):
        await crowd.quiet()
        await watcher.nothing_pending()
        return True
    return False


def path_points() -> list[str]:
    """Return every point on the path of a message."""
    return [point for point in failpoints.points() if point.partition(":")[0] in PATH]


@pytest.mark.timeout(300)
async def test_every_acknowledged_message_survives_kills_and_is_answered_once(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    figures: dict[str, object] = {}
    assert await violations(nursery, dsn, provider, kills=100, figures=figures) == []
    missed = [point for point in path_points() if point not in figures["kills"]]
    assert missed == []


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_a_thousand_kills_lose_nothing(nursery: Nursery, dsn: str, provider: Provider) -> None:
    figures: dict[str, object] = {}
    assert await violations(nursery, dsn, provider, kills=1000, figures=figures) == []


@pytest.mark.timeout(300)
async def test_the_law_catches_an_acknowledgement_before_the_commit(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    found = await violations(
        nursery,
        dsn,
        provider,
        kills=6,
        points=["inbox.accept:before"],
        patience=SETTLE,
        planted=("ack_before_commit",),
        settle=3,
    )
    assert any("was acknowledged and is 0 times" in breach for breach in found)


@pytest.mark.timeout(300)
async def test_the_law_catches_a_step_that_commits_in_two(
    nursery: Nursery, dsn: str, provider: Provider
) -> None:
    found = await violations(
        nursery,
        dsn,
        provider,
        kills=6,
        points=["planted.step_in_two:between"],
        patience=SETTLE,
        planted=("step_in_two",),
    )
    # Once more for each death between the two commits.
    assert any(re.search(r"was acknowledged and is [2-9] times", breach) for breach in found)
