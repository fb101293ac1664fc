import pytest

from actors import intake
from bench.provider import Provider
from storage import inbox
from storage.errors import UnavailableError
from storage.inbox import Submission
from storage.pool import Conn, Pool
from tests.actors.worlds import finish, world


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
