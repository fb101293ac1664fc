"""Approvals wait, with real deaths: hosts in processes of their own are killed (SIGKILL) at every stage."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from actors import clock
from actors.events import Event, RunFinished
from bench.provider import Provider
from bench.replies import Reply
from storage.pool import Pool, connection
from tests.actors.worlds import create_agent
from tests.laws import checks
from tests.laws.crowd import opened
from tests.laws.failpoints import Failpoint
from tests.laws.host_process import Cancel, Shorten, Spec, Tell
from tests.laws.nursery import GoneError, Home, HostProcess, Nursery, RefusedError
from tests.laws.test_l13_approvals_wait import open_requests, unpaired
from tests.laws.watcher import Watcher, watching
from tests.laws.watching import unfinished

pytestmark = [pytest.mark.law, pytest.mark.timeout(240)]

DIES_WITHIN = 20.0
ENDS_WITHIN = 30.0
LOOK = 0.02
CALL = "call-1"
NOTE: dict[str, Any] = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}}
KEEP: dict[str, Any] = {"name": "archival_memory_insert", "arguments": {"content": "Likes tea"}}
SEARCH: dict[str, Any] = {"name": "conversation_search", "arguments": {"query": "tea"}}


class Case:
    """An agent that asks before it calls, and the hosts that it has one after the other."""

    def __init__(self, home: Home, watcher: Watcher, pool: Pool, provider: Provider, spec: Spec) -> None:
        self._home, self._watcher, self._spec = home, watcher, spec
        self.pool, self.provider = pool, provider
        self.agent_id = ""

    async def prepare(self, call: dict[str, Any] = NOTE, **settings: Any) -> None:
        """Create the agent and give its model what it says."""
        await self.provider.script(
            [{"text": "May I?", "tool_calls": [{**call, "id": CALL}], "match": "I like tea"}]
        )
        self.agent_id = await create_agent(
            self.pool,
            model="openai/echo",
            more_tools=("archival_memory_insert",),
            embedding="openai/embed",
            tool_rules=({"type": "requires_approval", "tool_name": call["name"]},),
            **settings,
        )

    @asynccontextmanager
    async def host(self, point: str | None = None, nth: int = 1) -> AsyncGenerator[HostProcess]:
        """Run a host, which dies at its failpoint if it has one, and is killed at the end."""
        failpoint = None if point is None else Failpoint(point, nth)
        host = await self._home.start(_at(self._spec, failpoint))
        try:
            yield host
        finally:
            if point is None:
                host.kill()
            with anyio.CancelScope(shield=True), anyio.fail_after(DIES_WITHIN):
                await host.gone()
                await self._watcher.forgotten(host)
        assert point is None or host.failed_by_itself, f"no host died at {point}"

    async def say(self, host: HostProcess, text: str) -> RunFinished:
        """Send a message and return how its run ended."""
        return await self._heard(host, self._tell(text))

    async def approve(self, host: HostProcess) -> RunFinished:
        """Approve the call and return how the answer's run ended."""
        return await self._heard(host, self._tell("", approved=CALL))

    async def _heard(self, host: HostProcess, tell: Tell) -> RunFinished:
        with anyio.fail_after(ENDS_WITHIN):
            async with host.line() as line:
                receipt = await line.tell(tell)
                events: list[Event] = [e async for e in line.follow(self.agent_id, receipt)]
        assert isinstance(events[-1], RunFinished)
        return events[-1]

    def _tell(self, text: str, approved: str | None = None) -> Tell:
        return Tell(
            agent_id=self.agent_id,
            conversation_id=self.agent_id,
            text=text,
            key=clock.new_id("key"),
            approved=approved,
        )

    async def asked(self, host: HostProcess) -> None:
        """Let the agent come to its request."""
        assert (await self.say(host, "I like tea")).stop_reason == "requires_approval"
        assert await open_requests(self.pool, self.agent_id) == [CALL]

    async def settled(self) -> None:
        """Wait until no command is left to handle."""
        with anyio.fail_after(ENDS_WITHIN):
            while await unfinished(self.pool):
                await anyio.sleep(LOOK)

    async def wrong(self, *, value: str = "Likes tea", kept: int = 0, cancelled: bool = False) -> list[str]:
        """Say what is not as it should be once the request is answered, and the agent has gone on."""
        found = [f"{call} still waits" for call in await open_requests(self.pool, self.agent_id)]
        async with connection(self.pool) as conn:
            messages = await checks.history(conn, self.agent_id)
            held = await conn.fetchval("select value from blocks where label = 'human'")
            passages = await conn.fetchval("select count(*) from passages")
        if held != value:
            found.append(f"the block holds {held!r}")
        if passages != kept:
            found.append(f"there are {passages} passages")
        found += unpaired(messages)
        if cancelled:  # a run that was cancelled while it asked has said something, and is no success
            return found + [f"commands left: {left}" for left in [await unfinished(self.pool)] if left]
        found += await checks.steps_are_whole(self.pool)
        return found + await checks.all_is_handled(self.pool)


def _at(spec: Spec, failpoint: Failpoint | None) -> Spec:
    return Spec(dsn=spec.dsn, provider=spec.provider, settings=spec.settings, failpoint=failpoint)


@pytest.fixture
async def case(nursery: Nursery, dsn: str, provider: Provider) -> AsyncGenerator[Case]:
    """Yield a case whose hosts are all killed in the end, and logged no error that nobody expected."""
    spec = Spec(dsn=dsn, provider=provider.base_url, settings={"drain_seconds": 0.0})
    async with nursery.home() as home, watching(dsn) as watcher, opened(dsn) as pool:
        yield Case(home, watcher, pool, provider, spec)
        assert home.crashes == []


async def test_a_request_outlives_kills_and_refuses_messages_until_it_is_answered(case: Case) -> None:
    await case.prepare()
    async with case.host() as host:
        await case.asked(host)
    for _ in range(2):
        async with case.host() as host:
            with pytest.raises(RefusedError, match="PendingApprovalError"):
                await case.say(host, "hello?")
    async with case.host() as host:
        assert (await case.approve(host)).stop_reason == "end_turn"
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong() == []


@pytest.mark.parametrize(
    ("point", "accepted"),
    [
        ("inbox.accept:before", False),
        ("inbox.accept:after", True),
        ("checkpoints.commit:before", True),
        ("checkpoints.commit:after", True),
        ("pending.clear:sent", True),
        ("pending.clear:after", True),
    ],
)
async def test_an_answer_is_carried_out_once_wherever_its_host_is_killed(
    case: Case, point: str, accepted: bool
) -> None:
    await case.prepare()
    # The request is the first command and the first commit of its host, so the answer is the second.
    nth = 1 if point.startswith("pending.clear") else 2
    async with case.host(point, nth) as host:
        await case.asked(host)
        with suppress(GoneError):
            await case.approve(host)
    if not accepted:
        assert await open_requests(case.pool, case.agent_id) == [CALL]
    async with case.host() as host:
        if not accepted:
            await case.approve(host)
        await case.settled()
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong() == []


async def test_a_kill_while_an_approved_tool_reads_lets_it_read_again(case: Case) -> None:
    await case.prepare(SEARCH)
    async with case.host("recall.search:sent", 1) as host:
        await case.asked(host)
        with suppress(GoneError):
            await case.approve(host)
    async with case.host() as host:
        await case.settled()
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong(value="") == []


async def test_a_kill_while_an_approved_tool_waits_for_its_vector_stores_one_passage(case: Case) -> None:
    await case.prepare(KEEP)
    await case.provider.script([Reply(embeddings=True, delay_ms=60_000)])
    async with case.host() as host:
        await case.asked(host)
        await case.provider.log()
        async with anyio.create_task_group() as group:
            group.start_soon(_unheard, case, host)
            with anyio.fail_after(DIES_WITHIN):
                await case.provider.log(requests=1)
            host.kill()
    async with case.host() as host:
        await case.settled()
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong(value="", kept=1) == []


async def _unheard(case: Case, host: HostProcess) -> None:
    with suppress(GoneError):
        await case.approve(host)


async def test_a_request_outlives_compaction_and_kills(case: Case) -> None:
    await case.prepare()
    async with case.host() as host:
        for n in range(4):
            await case.say(host, f"{n} " + "word " * 200)
        await case.asked(host)
    async with case.host() as host:
        await _ask(host, Shorten(case.agent_id))
        assert await open_requests(case.pool, case.agent_id) == [CALL]
    async with case.host() as host:
        assert (await case.approve(host)).stop_reason == "end_turn"
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong() == []


async def _ask(host: HostProcess, asked: Cancel | Shorten) -> None:
    with anyio.fail_after(ENDS_WITHIN):
        async with host.line() as line:
            await line.ask(asked)


async def test_a_cancel_after_a_kill_denies_what_waits(case: Case) -> None:
    await case.prepare()
    async with case.host() as host:
        await case.asked(host)
    async with case.host() as host:
        await _ask(host, Cancel(case.agent_id))
        assert await open_requests(case.pool, case.agent_id) == []
    async with case.host() as host:
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong(value="", cancelled=True) == []


@pytest.mark.parametrize("point", ["pending.clear:sent", "checkpoints.commit:after"])
async def test_a_kill_in_a_cancel_leaves_the_request_whole_or_denied(case: Case, point: str) -> None:
    await case.prepare()
    async with case.host(point, 1 if point.startswith("pending") else 2) as host:
        await case.asked(host)
        with suppress(GoneError):
            await _ask(host, Cancel(case.agent_id))
    left = await open_requests(case.pool, case.agent_id)
    async with case.host() as host:
        await case.settled()
        if left:
            await _ask(host, Cancel(case.agent_id))
        assert (await case.say(host, "still there?")).status == "completed"
    assert await case.wrong(value="", cancelled=True) == []


# --- planted bugs ---------------------------------------------------------------------------------


async def test_a_request_that_is_lost_with_its_host_is_caught(case: Case) -> None:
    await case.prepare()
    async with case.host() as host:
        await case.asked(host)
    async with connection(case.pool) as conn:
        await conn.execute("delete from pending_requests")
    async with case.host() as host:
        assert (await case.say(host, "hello?")).status == "completed"  # the law: this is refused
    assert any("0 results" in what for what in await case.wrong(value=""))
