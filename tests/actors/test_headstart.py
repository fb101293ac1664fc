import anyio
import pytest

from actors import clock, committer, headstart, intake
from actors.commands import InputMessage, Receipt, SendMessages, UpdateBlock, UpdateConversation
from actors.commons import HostSettings
from actors.errors import NothingToCancelError
from actors.events import TextDelta
from bench.provider import Provider
from bench.recording import Record
from storage import inbox
from storage.errors import NotFoundError, UnavailableError
from storage.inbox import Accepted, Submission
from storage.pool import Conn, Pool, connection
from storage.records import ApprovalPart, BlockChanges, ConversationChanges, ImagePart, TextPart
from tests.actors.worlds import World, committed, finish, world

LOST = UnavailableError("the database is away")


class Slow:
    """A database that is slow to accept commands: `go` lets it go on. `refusal` is what it says then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(committer, "ACCEPT_DEADLINE", 60.0)
        monkeypatch.setattr(intake, "POLL", 60.0)
        self.reached, self.go = anyio.Event(), anyio.Event()
        self.committed_first = False  # whether it is its answer that is slow
        self.refusal: Exception | None = None
        self._accept = inbox.accept
        monkeypatch.setattr(inbox, "accept", self._slowly)

    async def _slowly(self, conn: Conn, batch: list[Submission]) -> list[Accepted | Exception]:
        self.reached.set()
        verdicts: list[Accepted | Exception] = []
        if self.committed_first:
            verdicts += await self._accept(conn, batch)
        await self.go.wait()
        if isinstance(self.refusal, UnavailableError):
            raise self.refusal
        if self.refusal is not None:
            return [self.refusal] * len(batch)
        return verdicts or [*await self._accept(conn, batch)]


@pytest.fixture(autouse=True)
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let keys of clients be trusted from the start."""
    monkeypatch.setattr(headstart, "UNSURE", 0.0)


async def hot(w: World, **settings: object) -> str:
    """Return an agent at rest whose model was asked once."""
    agent_id = await w.agent(**settings)  # type: ignore[arg-type]
    finish(await w.ask(agent_id, "wakes it"))
    with anyio.fail_after(10):
        while w.host._population.turns_running():
            await anyio.sleep(0.001)
    await w.provider.log(ended=1)
    return agent_id


def said(w: World, agent_id: str) -> int:
    """Return how many events the conversation's log has had."""
    return w.host.logs.channel(agent_id, agent_id).next


async def rows(w: World) -> dict[str, int]:
    """Return how much there is in the database of what a turn writes."""
    async with connection(w.pool) as conn:
        return {
            name: await conn.fetchval(f"select count(*) from {name}")
            for name in ("inbox", "runs", "steps", "messages", "tool_calls")
        }


async def nothing_left(w: World) -> None:
    """Check that no head start is kept, and no command is counted."""
    assert not w.host._population.heads._begun
    assert w.host.health().unfinished_runs == 0


async def asked_once(w: World) -> Record:
    """Return the one request that the provider has got since it was asked before, once it has ended."""
    (record,) = await w.provider.log(requests=1, ended=1)
    return record


async def test_the_model_is_asked_while_the_acceptance_commits_and_nothing_is_told_before_it(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        before, events_before = await rows(w), said(w, agent_id)
        slow = Slow(monkeypatch)
        receipts: list[Receipt] = []
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                receipts.append(await w.tell(agent_id, "one"))

            group.start_soon(tell)
            (record,) = await provider.log(requests=1, ended=1, keep=True)  # it has even answered
            assert (record.user_text, record.aborted) == ("one", False)
            assert said(w, agent_id) == events_before, "nothing is told before the command is durable"
            assert await rows(w) == before, "nothing is stored before it, either"
            assert not receipts
            slow.go.set()
        events = await w.events(receipts[0], agent_id)
        assert finish(events).status == "completed"
        assert committed(events) == [("user", "one"), ("assistant", "[4 messages] one")]
        assert (await asked_once(w)).user_text == "one"
        async with connection(pool) as conn:
            step = await conn.fetchval("select id from steps where run_id = $1", receipts[0].run_id)
        assert record.headers["idempotency-key"] == f"{step}.0", "the call goes by the name of its step"
        await nothing_left(w)


async def test_the_acceptance_is_on_its_way_before_the_call(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        accept, make = inbox.accept, headstart.HeadStart._make

        async def accepted(conn: Conn, batch: list[Submission]) -> object:
            order.append("acceptance")
            return await accept(conn, batch)

        def made(self: headstart.HeadStart, model: object) -> object:
            order.append("call")
            return make(self, model)  # type: ignore[arg-type]

        monkeypatch.setattr(inbox, "accept", accepted)
        monkeypatch.setattr(headstart.HeadStart, "_make", made)
        finish(await w.ask(agent_id, "one"))
    assert order == ["acceptance", "call"]


@pytest.mark.parametrize("refusal", [NotFoundError("agent", "x"), LOST], ids=["refused", "unavailable"])
async def test_a_refused_acceptance_leaves_nothing_but_a_broken_connection(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "never seen", "gate": "shut"}])
        before, events_before = await rows(w), said(w, agent_id)
        slow = Slow(monkeypatch)
        slow.refusal = refusal
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                with pytest.raises(type(refusal)):
                    await w.tell(agent_id, "one")

            group.start_soon(tell)
            await provider.log(requests=1, keep=True)
            slow.go.set()
        assert (await asked_once(w)).aborted
        assert (await rows(w), said(w, agent_id)) == (before, events_before)
        await nothing_left(w)
        slow.refusal = None
        assert finish(await w.ask(agent_id, "two")).status == "completed"
        assert [t for r, t in await w.history(agent_id) if r == "user"] == ["wakes it", "two"]


async def test_a_repeat_of_a_command_asks_no_model(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        first = await w.tell(agent_id, "one", key="k")
        finish(await w.events(first, agent_id))
        again = await w.tell(agent_id, "one", key="k")
        assert (again.replayed, again.run_id) == (True, first.run_id)
        finish(await w.ask(agent_id, "two"))
        assert [r.user_text for r in await provider.log()] == ["one", "two"]
        await nothing_left(w)


async def test_a_repeat_that_nobody_remembers_is_dropped_when_it_turns_out_to_be_one(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        first = await w.tell(agent_id, "one", key="k")
        finish(await w.events(first, agent_id))
        await provider.log(ended=1)
        before, events_before = await rows(w), said(w, agent_id)
        w.host._population.heads._keys.clear()  # as after a restart
        await provider.script([{"text": "never seen", "gate": "shut"}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                again = await w.tell(agent_id, "one", key="k")
                assert (again.replayed, again.run_id) == (True, first.run_id)

            group.start_soon(tell)
            await provider.log(requests=1, keep=True)
            slow.go.set()
        assert (await asked_once(w)).aborted
        assert (await rows(w), said(w, agent_id)) == (before, events_before)
        await nothing_left(w)


async def test_while_the_database_does_not_answer_no_model_is_asked(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        slow = Slow(monkeypatch)
        slow.refusal = LOST
        slow.go.set()
        for text in ("one", "two", "three"):
            with pytest.raises(UnavailableError):
                await w.tell(agent_id, text)
        assert len(await provider.log()) <= 1, "only the first could not know"
        slow.refusal = None
        slow.go = anyio.Event()
        slow.committed_first = True
        async with anyio.create_task_group() as group:
            group.start_soon(w.ask, agent_id, "four")
            await slow.reached.wait()
            slow.go.set()
        assert (await asked_once(w)).user_text == "four"
        assert w.host._population.heads.trusted


async def test_a_command_whose_acknowledgement_was_lost_is_asked_for_once(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        accept, times = inbox.accept, 0

        async def deaf(conn: Conn, batch: list[Submission]) -> object:
            nonlocal times
            times += 1
            verdicts = await accept(conn, batch)
            if times == 1:
                await provider.log(requests=1, keep=True)
                raise LOST
            return verdicts

        monkeypatch.setattr(inbox, "accept", deaf)
        assert finish(await w.ask(agent_id, "one")).status == "completed"
        assert (await asked_once(w)).user_text == "one"
        await nothing_left(w)


async def test_a_run_that_the_poll_began_takes_the_head_start(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        slow = Slow(monkeypatch)
        slow.committed_first = True
        async with anyio.create_task_group() as group:
            group.start_soon(w.ask, agent_id, "one")
            await provider.log(requests=1, keep=True)
            with anyio.fail_after(10):
                while len(await w.history(agent_id)) < 4:
                    await w.host._intake.poll_once()
                    await anyio.sleep(0.01)
            slow.go.set()
        assert (await asked_once(w)).user_text == "one"
        await nothing_left(w)


async def test_an_edit_that_comes_in_between_is_seen_by_the_model(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "of old memory", "gate": "shut"}, {"text": "of new memory"}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                assert committed(await w.ask(agent_id, "one"))[-1] == ("assistant", "of new memory")

            group.start_soon(ask)
            await provider.log(requests=1, keep=True)
            await w.host.ref(agent_id).edit(UpdateBlock(label="human", changes=BlockChanges(value="tea")))
            slow.go.set()
        stale, asked = await provider.log(requests=2, ended=2)
        assert (stale.aborted, asked.aborted) == (True, False)
        assert "tea" in asked.body["messages"][0]["content"]
        assert stale.headers["idempotency-key"] != asked.headers["idempotency-key"]
        await nothing_left(w)


@pytest.mark.parametrize("model", ["openai/echo-next", "demo/scripted"])
async def test_a_model_that_is_chosen_in_between_is_the_one_that_answers(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "of the model before", "gate": "late"}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                events = await w.ask(agent_id, "one")
                assert finish(events).status == "completed"
                assert ("assistant", "of the model before") not in committed(events)

            group.start_soon(ask)
            await provider.log(requests=1, keep=True)
            chosen = ConversationChanges(model=model)
            await w.host.ref(agent_id).edit(UpdateConversation(agent_id, chosen))
            slow.go.set()
            await provider.open("late")
        await nothing_left(w)
        async with connection(pool) as conn:
            steps = await conn.fetch("select model from steps order by created_at")
        assert [row["model"] for row in steps] == ["openai/echo", model]


async def test_a_call_that_fails_early_is_repeated_like_any_other(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"status": 503}, {"text": "now"}])
        assert committed(await w.ask(agent_id, "one"))[-1] == ("assistant", "now")
        failed, asked = await provider.log(requests=2, ended=2)
        assert (failed.status, asked.status) == (503, 200)
        assert failed.headers["idempotency-key"] == asked.headers["idempotency-key"]
        await nothing_left(w)


async def test_a_fault_of_ours_costs_the_head_start_alone(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: headstart.HeadStart, model: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(headstart.HeadStart, "_make", broken)
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        assert finish(await w.ask(agent_id, "one")).status == "completed"
        assert (await asked_once(w)).user_text == "one"
        await nothing_left(w)


async def test_one_that_no_turn_takes_in_time_is_dropped(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headstart, "PATIENCE", 2.0)  # by then the model was asked
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "too early", "gate": "shut"}, {"text": "in time"}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                assert committed(await w.ask(agent_id, "one"))[-1] == ("assistant", "in time")

            group.start_soon(ask)
            (record,) = await provider.log(requests=1, ended=1)
            assert record.aborted
            slow.go.set()
        await nothing_left(w)


async def test_a_cancellation_before_the_acceptance_finds_nothing_and_after_it_the_run(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "a b c d", "gate": "on", "gate_after": 2}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                receipt = await w.tell(agent_id, "one")
                async for batch in w.host.ref(agent_id).follow(receipt.run_id, agent_id):
                    if any(isinstance(e.event, TextDelta) for e in batch):
                        break
                await w.host.ref(agent_id).cancel_run(receipt.run_id)
                assert finish(await w.events(receipt, agent_id)).status == "cancelled"

            group.start_soon(tell)
            await provider.log(requests=1, keep=True)
            with pytest.raises(NothingToCancelError):
                await w.host.ref(agent_id).cancel()
            slow.go.set()
        assert (await asked_once(w)).aborted
        assert (await w.messages(agent_id))[-1].interrupted
        await nothing_left(w)


async def test_a_run_that_is_cancelled_as_it_begins_shows_nothing(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "never seen", "gate": "shut"}])
        slow = Slow(monkeypatch)
        settle = intake.Intake._settle

        def cancelled(self: intake.Intake, item: Submission, *more: object) -> None:
            settle(self, item, *more)  # type: ignore[arg-type]
            w.host._commons.load.cancel(item.run_id)

        monkeypatch.setattr(intake.Intake, "_settle", cancelled)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                events = await w.ask(agent_id, "one")
                assert finish(events).status == "cancelled"
                assert committed(events) == [("user", "one")]

            group.start_soon(ask)
            await provider.log(requests=1, keep=True)
            slow.go.set()
        assert (await asked_once(w)).aborted
        await nothing_left(w)


async def test_a_run_that_is_cancelled_while_it_waits_for_its_turn_asks_no_longer(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headstart, "PATIENCE", 600.0)
    async with world(pool, provider, settings=HostSettings(max_runs=1)) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "never seen", "gate": "shut"}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                receipt = await w.tell(agent_id, "one")
                await w.host.ref(agent_id).cancel_run(receipt.run_id)
                assert finish(await w.events(receipt, agent_id)).status == "cancelled"

            group.start_soon(tell)
            await provider.log(requests=1, keep=True)
            async with w.host._commons.run_slots:
                slow.go.set()
                assert (await asked_once(w)).aborted
        await nothing_left(w)


@pytest.mark.parametrize("busy", ["queue", "steer", "interrupt"])
async def test_what_comes_next_meanwhile_waits_or_joins_or_interrupts_as_ever(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, busy: str
) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        slow = Slow(monkeypatch)
        receipts: list[Receipt] = []

        async def tell(text: str, busy: str) -> None:
            receipts.append(await w.tell(agent_id, text, when_busy=busy))

        async with anyio.create_task_group() as group:
            group.start_soon(tell, "one", "queue")
            await provider.log(requests=1, keep=True)
            group.start_soon(tell, "two", busy)
            await anyio.wait_all_tasks_blocked()
            slow.go.set()
        for receipt in receipts:
            finish(await w.events(receipt, agent_id))
        texts = [t for r, t in await w.history(agent_id) if r == "user"]
        assert texts == ["wakes it", "one", "two"]
        records = await provider.log(requests=2)
        assert records[0].user_text == "one"
        assert len(records) == 2, "only what waited for nothing has a head start"
        await nothing_left(w)


async def test_a_turn_that_does_something_before_it_asks_has_no_head_start(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that is full is shortened first, one that is to be forgotten is cleared first."""
    begun: list[headstart._Sending] = []
    sent = headstart._Sending.sent

    def noted(self: headstart._Sending) -> None:
        begun.append(self)
        sent(self)

    monkeypatch.setattr(headstart._Sending, "sent", noted)
    async with world(pool, provider) as w:
        full = await hot(w, context_window_tokens=1200)
        finish(await w.ask(full, "word " * 3000))
        forgets = await hot(w, message_buffer_autoclear=True)
        finish(await w.ask(forgets, "one"))
        assert begun == []
        finish(await w.ask(await hot(w), "one"))
        assert len(begun) == 1


async def test_who_wakes_up_for_a_command_has_no_head_start(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await hot(w)
        w.host._population.drop(w.host._population.hot[agent_id])
        assert finish(await w.ask(agent_id, "one")).status == "completed"
        assert (await asked_once(w)).user_text == "one"


async def test_a_host_that_is_told_to_stop_drops_what_no_turn_took(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider, settings=HostSettings(drain_seconds=0.1)) as w:
        agent_id = await hot(w)
        await provider.script([{"text": "never seen", "gate": "shut"}])
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:

            async def tell() -> None:
                with pytest.raises(UnavailableError):
                    await w.tell(agent_id, "one")

            slow.refusal = LOST
            group.start_soon(tell)
            await provider.log(requests=1, keep=True)
            w.host._population.heads.drop_all()
            assert (await asked_once(w)).aborted
            slow.go.set()


async def test_no_more_are_begun_at_once_than_a_batch_holds(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headstart, "MOST", 1)
    async with world(pool, provider) as w:
        agents = [await hot(w), await hot(w)]
        slow = Slow(monkeypatch)
        async with anyio.create_task_group() as group:
            for agent_id in agents:
                group.start_soon(w.ask, agent_id, "one")
            await provider.log(requests=1, keep=True)
            assert len(w.host._population.heads._begun) == 1
            slow.go.set()
        assert len(await provider.log(requests=2, ended=2)) == 2
        await nothing_left(w)


def test_only_so_many_keys_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headstart, "KEPT_KEYS", 2)
    heads = headstart.HeadStarts(None)  # type: ignore[arg-type]
    assert [heads._repeated("agent-1", key) for key in ("a", "b", "a", "c")] == [False, False, True, False]
    assert not heads._repeated("agent-1", "a")
    assert not heads._repeated("agent-2", "c")
    assert len(heads._keys) == 2


def test_keys_of_clients_are_not_trusted_to_be_new_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headstart, "UNSURE", 600.0)
    heads = headstart.HeadStarts(None)  # type: ignore[arg-type]
    assert heads._repeated("agent-1", "otid-1")
    assert heads._repeated("agent-1", "client-1")
    assert not heads._repeated("agent-1", clock.new_id("request"))
    assert not heads._repeated("agent-1", "looked-up", fresh=True)
    assert heads._repeated("agent-1", "looked-up", fresh=True), "it came before"
    monkeypatch.setattr(headstart, "UNSURE", 0.0)
    assert not heads._repeated("agent-1", "otid-2")
    assert heads._repeated("agent-1", "otid-1"), "it came before"


def said_by(text: str) -> tuple[InputMessage, ...]:
    return (InputMessage(role="user", content=(TextPart(text),)),)


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({}, True),
        ({"lane": "background", "max_steps": 1}, True),
        ({"messages": ()}, False),
        ({"messages": said_by("x" * (headstart.LONGEST_CHARS + 1))}, False),
        (
            {"messages": (InputMessage(role="user", content=(ImagePart({"type": "url", "url": "u"}),)),)},
            False,
        ),
        ({"approvals": (ApprovalPart("c", approve=True),)}, False),
        ({"withdraws": {"message-1": 3}}, False),
        ({"system": "another"}, False),
        ({"steer_run": "run-1"}, False),
        ({"max_steps": 0}, False),
    ],
)
def test_only_plain_text_that_the_model_is_to_answer_has_a_head_start(
    changes: dict[str, object], plain: bool
) -> None:
    command = {"conversation_id": "agent-1", "messages": said_by("hi"), **changes}
    assert headstart._plain(SendMessages(**command)) is plain  # type: ignore[arg-type]
