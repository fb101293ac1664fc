"""Requests that nobody answered in time: whatever becomes of one answer, the others are given."""

import logging
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import pytest

from actors import expiry
from actors.commands import Envelope, Receipt, SendMessages
from actors.errors import BrokenAgentError, DrainingError, InvalidAnswerError
from storage.errors import UnavailableError
from storage.pool import Pool
from storage.records import DEFAULT_ORGANIZATION

NO_POOL = cast("Pool", None)
AGENTS = ("agent-a", "agent-b", "agent-c")


def envelope(agent_id: str) -> Envelope:
    command = SendMessages(conversation_id=agent_id, messages=())
    return Envelope(
        command=command,
        key=f"expired-{agent_id}",
        request_hash=b"x",
        caller="wakeful",
        organization_id=DEFAULT_ORGANIZATION,
    )


class Accepting:
    """Accepts answers, but for an agent whose answer fails."""

    def __init__(self, failure: Exception | None = None, *, replayed: bool = False) -> None:
        self.asked: list[str] = []
        self._failure = failure
        self._replayed = replayed

    async def __call__(self, agent_id: str, given: Envelope) -> Receipt:
        self.asked.append(agent_id)
        if self._failure is not None and agent_id == AGENTS[0]:
            raise self._failure
        conversation_id = given.command.conversation_id
        return Receipt(run_id="run-1", conversation_id=conversation_id, seq=1, replayed=self._replayed)


@pytest.fixture(autouse=True)
def three_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(*_: object) -> list[tuple[str, Envelope]]:
        return [(agent_id, envelope(agent_id)) for agent_id in AGENTS]

    monkeypatch.setattr(expiry, "answers", answers)


@pytest.mark.parametrize(
    ("failure", "logged"),
    [(InvalidAnswerError("somebody was faster"), 0), (BrokenAgentError("agent-a"), 1)],
)
async def test_an_answer_that_cannot_be_given_keeps_no_other_waiting(
    failure: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    accepting = Accepting(failure)
    await expiry.answer(NO_POOL, "deny", accept=accepting)
    assert accepting.asked == list(AGENTS)
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == logged


@pytest.mark.parametrize("failure", [DrainingError(), UnavailableError("the database is away")])
async def test_no_further_answer_is_tried_while_nothing_can_be_accepted(failure: Exception) -> None:
    accepting = Accepting(failure)
    with pytest.raises(type(failure)):
        await expiry.answer(NO_POOL, "deny", accept=accepting)
    assert accepting.asked == [AGENTS[0]]


@pytest.mark.parametrize(("replayed", "told"), [(False, 3), (True, 0)])
async def test_an_answer_that_was_given_before_is_not_told_again(
    replayed: bool, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="wakeful.host"):
        await expiry.answer(NO_POOL, "deny", accept=Accepting(replayed=replayed))
    assert len([r for r in caplog.records if r.getMessage() == "request expired"]) == told


async def test_a_look_that_fails_is_followed_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "LOOK", 0.0)
    looks = 0
    enough = anyio.Event()

    async def once() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            enough.set()
        raise UnavailableError("the database is away")

    keep: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] = expiry.keep
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(keep, once)
            await enough.wait()
            group.cancel_scope.cancel()
    assert looks >= 3
