from typing import Any

import anyio
import pytest

from actors import intake
from actors.agent import Actor
from actors.commands import Receipt
from actors.commons import HostSettings
from actors.errors import MailboxFullError, NotRunningError
from actors.population import Population
from bench.provider import Provider
from storage import activation, inbox
from storage.activation import Activated
from storage.errors import UnavailableError
from storage.inbox import Accepted, Submission
from storage.pool import Conn, Pool, connection
from storage.records import ApprovalPart
from tests.actors.worlds import World, finish, world
from tests.laws.watching import until
from tests.storage import seeds


def lose_answers(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let acceptances commit and their next answers get lost."""
    accept, lost = inbox.accept, 0

    async def deaf(conn: Conn, batch: list[Submission]) -> object:
        nonlocal lost
        verdicts = await accept(conn, batch)
        lost += 1
        if lost <= times:
            raise UnavailableError("the answer was lost")
        return verdicts

    monkeypatch.setattr(inbox, "accept", deaf)


async def test_an_acceptance_whose_answer_was_lost_is_handled_in_its_turn(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "POLL", 60.0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, "wakes it"))
        lose_answers(monkeypatch, times=1)
        first = await w.tell(agent_id, "one")
        second = await w.tell(agent_id, "two")
        assert (first.replayed, second.replayed) == (False, False)
        finish(await w.events(first, agent_id))
        finish(await w.events(second, agent_id))
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["wakes it", "one", "two"]


async def test_a_repeat_of_a_command_that_nobody_was_told_of_is_handled_before_the_next(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "POLL", 60.0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, "wakes it"))
        lose_answers(monkeypatch, times=2)
        with pytest.raises(UnavailableError):
            await w.tell(agent_id, "one", key="k")
        first = await w.tell(agent_id, "one", key="k")
        second = await w.tell(agent_id, "two")
        finish(await w.events(first, agent_id))
        finish(await w.events(second, agent_id))
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["wakes it", "one", "two"]
        assert w.host.health().unfinished_runs == 0


async def test_a_text_that_is_no_unicode_is_not_counted(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        with pytest.raises(UnicodeEncodeError):
            await w.tell(agent_id, "lone surrogate \ud800")
        assert w.host.health().unfinished_runs == 0


async def test_a_poll_that_is_faster_than_the_acknowledgement_counts_nothing_twice(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        accept = inbox.accept

        async def polled(conn: Conn, batch: list[Submission]) -> object:
            verdicts = await accept(conn, batch)
            await w.host._intake.poll_once()
            return verdicts

        monkeypatch.setattr(inbox, "accept", polled)
        finish(await w.ask(agent_id, "one"))
        finish(await w.ask(agent_id, "two"))
        assert w.host.health().unfinished_runs == 0
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["one", "two"]


async def run_over(w: World, agent_id: str, run_id: str) -> None:
    """Wait until a run is over in the log and its conversation is at rest."""
    finish(await w.events(Receipt(run_id=run_id, conversation_id=agent_id, seq=0), agent_id))
    with anyio.fail_after(15):
        while w.host._population.turns_running():
            await anyio.sleep(0.001)


async def asked(w: World) -> list[str]:
    """Return what the model was asked since the last call."""
    return [record.user_text for record in await w.provider.log()]


@pytest.mark.parametrize("awake", [True, False])
@pytest.mark.parametrize("lost", [True, False])
async def test_a_run_that_is_over_before_its_acknowledgement_is_handled_once(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, *, awake: bool, lost: bool
) -> None:
    monkeypatch.setattr(intake, "POLL", 60.0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        if awake:
            finish(await w.ask(agent_id, "wakes it"))
        await asked(w)
        accept, times = inbox.accept, 0

        async def overtaken(conn: Conn, batch: list[Submission]) -> object:
            nonlocal times
            times += 1
            verdicts = await accept(conn, batch)
            if times == 1:
                await w.host._intake.poll_once()  # an awake agent is told by it, another one is woken
                await run_over(w, agent_id, batch[0].run_id)
                if lost:
                    raise UnavailableError("the answer was lost")
            return verdicts

        monkeypatch.setattr(inbox, "accept", overtaken)
        receipt = await w.tell(agent_id, "one")
        assert not receipt.replayed
        finish(await w.events(receipt, agent_id))
        finish(await w.ask(agent_id, "two"))
        assert times == 3 if lost else 2
        assert await asked(w) == ["one", "two"]
        users = [t for r, t in await w.history(agent_id) if r == "user"]
        assert users == [*(["wakes it"] if awake else []), "one", "two"]
        assert w.host.health().unfinished_runs == 0


@pytest.mark.parametrize("reading", ["pending", "get"])
async def test_a_command_that_was_handled_while_the_poll_read_it_is_handled_once(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    monkeypatch.setattr(intake, "POLL", 60.0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, "wakes it"))
        accept, reads = inbox.accept, getattr(inbox, reading)
        read, over = anyio.Event(), anyio.Event()

        async def slowly(*args: object, **options: object) -> object:
            found = await reads(*args, **options)
            assert found
            read.set()
            await over.wait()
            return found

        async with anyio.create_task_group() as group:

            async def accepted(conn: Conn, batch: list[Submission]) -> object:
                verdicts = await accept(conn, batch)
                group.start_soon(w.host._intake.poll_once)
                await read.wait()
                return verdicts

            monkeypatch.setattr(inbox, "accept", accepted)
            monkeypatch.setattr(inbox, reading, slowly)
            receipt = await w.tell(agent_id, "one")
            await run_over(w, agent_id, receipt.run_id)
            if reading == "pending":
                w.host._population.drop(w.host._population.hot[agent_id])
            over.set()
        assert (agent_id in w.host._population.hot) == (reading == "get")
        assert not w.host._population._waking
        assert w.host.health().unfinished_runs == 0
        monkeypatch.setattr(inbox, "accept", accept)
        finish(await w.ask(agent_id, "two"))
        assert await asked(w) == ["wakes it", "one", "two"]


async def test_a_command_that_a_waking_agent_did_not_read_is_not_taken_for_one_that_is_over(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "POLL", 60.0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        accept, activate = inbox.accept, activation.activate
        read, polled = anyio.Event(), anyio.Event()

        async def early(conn: Conn, agent_id: str, *, fence: int) -> Activated:
            state = await activate(conn, agent_id, fence=fence)
            read.set()
            await polled.wait()
            return state

        async def late(conn: Conn, batch: list[Submission]) -> list[Accepted | Exception]:
            verdicts = [*await accept(conn, batch)]
            await w.host._intake.poll_once()
            polled.set()
            await w.host._population.wake(agent_id)
            return verdicts

        async with anyio.create_task_group() as group:
            monkeypatch.setattr(activation, "activate", early)
            monkeypatch.setattr(inbox, "accept", late)
            group.start_soon(w.host._population.wake, agent_id)
            await read.wait()
            finish(await w.ask(agent_id, "one"))
        assert await asked(w) == ["one"]
        assert w.host.health().unfinished_runs == 0


async def test_a_command_that_a_waking_agent_read_and_was_told_of_is_handled_once(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "POLL", 60.0)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        accept, activate, deliver = inbox.accept, activation.activate, Population._deliver_pending
        read, told = anyio.Event(), anyio.Event()

        async def held_up(conn: Conn, agent_id: str, *, fence: int) -> Activated:
            state = await activate(conn, agent_id, fence=fence)
            read.set()
            await told.wait()
            return state

        async def long(self: Population, actor: Actor, state: Activated, *, since: float) -> None:
            await deliver(self, actor, state, since=since)  # as where it gives up other commands meanwhile
            with anyio.fail_after(15):
                while not actor.idle:
                    await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:

            async def accepted(conn: Conn, batch: list[Submission]) -> object:
                verdicts = await accept(conn, batch)
                group.start_soon(w.host._population.wake, agent_id)
                await read.wait()
                return verdicts

            monkeypatch.setattr(activation, "activate", held_up)
            monkeypatch.setattr(Population, "_deliver_pending", long)
            monkeypatch.setattr(inbox, "accept", accepted)
            receipt = await w.tell(agent_id, "one")
            told.set()
            finish(await w.events(receipt, agent_id))
        monkeypatch.setattr(inbox, "accept", accept)
        finish(await w.ask(agent_id, "two"))
        assert await asked(w) == ["one", "two"]
        assert w.host.health().unfinished_runs == 0


GATED = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}], "gate": "on"}


async def test_steering_a_given_run_joins_it_and_no_other(pool: Pool, provider: Provider) -> None:
    await provider.script([GATED, {"text": "fine"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first = await w.tell(agent_id, "a")
        await provider.log(requests=1, keep=True)
        steered = await w.tell(agent_id, "b", when_busy="steer", steer_run=first.run_id)
        assert steered.disposition == "steered"
        await provider.open("on")
        events = await w.events(steered, agent_id)
        assert finish(events).run_id == first.run_id


async def test_a_run_that_is_over_or_waits_is_not_steered(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "ok"}, {"fault": "hang"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        over = finish(await w.ask(agent_id, "a"))
        running = await w.tell(agent_id, "b")
        await provider.log(requests=2, keep=True)
        queued = await w.tell(agent_id, "c")
        with pytest.raises(NotRunningError, match="already finished"):
            await w.tell(agent_id, "d", when_busy="steer", steer_run=over.run_id)
        with pytest.raises(NotRunningError, match="waits its turn"):
            await w.tell(agent_id, "d", when_busy="steer", steer_run=queued.run_id)
        assert w.host.health().unfinished_runs == 2
        await w.host.ref(agent_id).cancel()
        finish(await w.events(running, agent_id))
        assert [t for r, t in await w.history(agent_id) if r == "user" and t == "d"] == []


async def test_steering_that_its_run_did_not_wait_for_is_a_turn_of_its_own(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"text": "one", "gate": "on"}, {**GATED, "gate": "two"}, {"text": "three"}])
    accept = inbox.accept
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first = await w.tell(agent_id, "a")
        await provider.log(requests=1, keep=True)
        other = await w.tell(agent_id, "b")

        async def late(*args: Any, **more: Any) -> Any:
            verdicts = await accept(*args, **more)
            await provider.open("on")
            await w.events(first, agent_id)
            await provider.log(requests=2, keep=True)
            return verdicts

        monkeypatch.setattr(inbox, "accept", late)
        aimed = await w.tell(agent_id, "for a", when_busy="steer", steer_run=first.run_id)
        monkeypatch.setattr(inbox, "accept", accept)
        assert aimed.disposition == "queued"
        await provider.open("two")
        assert finish(await w.events(other, agent_id)).run_id == other.run_id
        assert finish(await w.events(aimed, agent_id)).run_id == aimed.run_id
        said = [t for r, t in await w.history(agent_id) if r == "user"]
        assert said == ["a", "b", "for a"]


async def test_a_full_mailbox_takes_the_answer_that_everything_in_it_waits_for(
    pool: Pool, provider: Provider
) -> None:
    settings = HostSettings(when_pending="queue", max_pending_per_agent=3, max_pending=3)
    async with world(pool, provider, settings=settings) as w:
        agent_id = await asking(w, provider)
        waiting = [await w.tell(agent_id, f"m{i}") for i in range(3)]
        with pytest.raises(MailboxFullError):
            await w.tell(agent_id, "one more")
        answer = await w.tell(agent_id, "", messages=(), approvals=(ApprovalPart("call-1", approve=True),))
        for receipt in (answer, *waiting):
            assert finish(await w.events(receipt, agent_id)).status == "completed"


async def test_commands_that_wait_long_do_not_hide_others_from_the_poll(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "POLL_ROWS", 3)
    async with world(pool, provider, settings=HostSettings(when_pending="queue")) as w:
        agent_id = await asking(w, provider)
        for i in range(4):
            await w.tell(agent_id, f"m{i}")
        other = await w.agent()
        async with connection(pool) as conn:  # nobody is told of it
            await inbox.accept(conn, [seeds.submission(other, text="unheard")])
        await until(lambda: other in w.host._population.hot)
        await until(lambda: w.host._commons.load.count(other) == 0)
        assert await provider.log(requests=2)
        await w.host.ref(agent_id).cancel(None)


async def asking(w: World, provider: Provider) -> str:
    """Create an agent that waits for the approval of `call-1`."""
    arguments = {"label": "human", "new_string": "Likes tea"}
    call = {"name": "memory_insert", "arguments": arguments, "id": "call-1"}
    await provider.script([{"text": "May I?", "tool_calls": [call]}])
    rule = {"type": "requires_approval", "tool_name": "memory_insert"}
    agent_id = await w.agent(tool_rules=(rule,))
    assert finish(await w.ask(agent_id, "I like tea")).stop_reason == "requires_approval"
    return agent_id
