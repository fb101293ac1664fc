from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from msgspec import Raw

from gateway.chat import answer as chat_answer
from gateway.chat.answer import GONE, Absence, Answer
from gateway.chat.client import Agent, AwayError, Run
from gateway.chat.transcript import Stored
from gateway.client import ClientError, DeniedError, EndedError, Gap, LostError, Publication, Sent
from gateway.client.events import (
    Custom,
    Event,
    Outcome,
    RunError,
    RunFinished,
    RunStarted,
    TextDelta,
    TextEnded,
    TextStarted,
)
from tests.gateway.chat_views import Memory

AWAY = LostError("nothing answers")
GAP = Gap("e2", 0)


def said(text: str, *, message: str = "message-m", run: str = "run-1") -> list[Publication]:
    return [of(one, run) for one in (TextStarted(message), TextDelta(message, text), TextEnded(message))]


def of(event: Event, run: str = "run-1") -> Publication:
    return Publication(1, event, {"run": run})


def end(stop_reason: str = "end_turn", run: str = "run-1") -> Publication:
    outcome = Outcome("cancelled" if stop_reason == "cancelled" else "success")
    result = None if stop_reason == "cancelled" else {"stop_reason": stop_reason}
    return of(RunFinished("agent-1", run, outcome, result), run)


class Server:
    """A client whose server follows a script: one list of items for each subscription.

    An error in a list is raised there; a `LostError` says that the server was away, and the list goes on.
    """

    def __init__(
        self,
        *subscriptions: list[Publication | Gap | ClientError],
        sends: tuple[Exception, ...] = (),
        runs: tuple[Run | AwayError, ...] = (),
        stored: tuple[Stored, ...] = (),
    ) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.cancel_fails: Exception | None = None
        self.is_connected = True
        self.absence: Absence
        self._subscriptions = list(subscriptions)
        self._sends = list(sends)
        self._runs = list(runs)
        self._stored = stored

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncGenerator[AsyncGenerator[Publication | Gap]]:
        self.asked.append(("subscribe", channel))
        yield self._play(self._subscriptions.pop(0))

    async def _play(self, items: list[Publication | Gap | ClientError]) -> AsyncGenerator[Publication | Gap]:
        for item in items:
            if isinstance(item, LostError):
                self.absence.began(item)
            elif isinstance(item, ClientError):
                raise item
            else:
                yield item

    async def send(self, agent: str, text: str, *, client_message_id: str) -> Sent:
        self.asked.append(("send", agent, text, client_message_id))
        if self._sends:
            raise self._sends.pop(0)
        return Sent(run="run-1")

    async def cancel(self, run_id: str) -> None:
        self.asked.append(("cancel", run_id))
        if self.cancel_fails is not None:
            raise self.cancel_fails

    async def run(self, run_id: str) -> Run:
        self.asked.append(("run", run_id))
        run = self._runs.pop(0)
        if isinstance(run, AwayError):
            raise run
        return run

    async def messages(self, run_id: str) -> list[Stored]:
        self.asked.append(("messages", run_id))
        return list(self._stored)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_answer, "RETRY_SECONDS", 0.0)


def answer(server: Server) -> tuple[Answer, Memory]:
    view = Memory()
    server.absence = Absence(view)
    agent = Agent("agent-1", "ada")
    return Answer(server, server, agent, "hello", view=view, absence=server.absence), view  # type: ignore[arg-type]


async def test_an_answer_is_shown_to_its_end() -> None:
    server = Server([of(RunStarted("agent-1", "run-1")), *said("Hello"), end(), *said("Not mine")])
    told, view = answer(server)
    assert await told.show() is True
    assert view.shown == [("answer", "Hello")]
    assert view.notices == []
    assert [asked[:3] for asked in server.asked] == [
        ("subscribe", "conv:agent-1"),
        ("send", "agent-1", "hello"),
    ]


async def test_what_other_runs_of_the_conversation_say_is_not_shown() -> None:
    other = [*said("Other", run="run-0"), end(run="run-0")]
    told, view = answer(Server([*other, *said("Hello"), *other, end()]))
    assert await told.show() is True
    assert view.shown == [("answer", "Hello")]


async def test_an_answer_goes_on_over_a_cut_where_it_stood() -> None:
    start, delta, close = said("Hello")
    told, view = answer(Server([start, delta, AWAY, AWAY, delta, close, end()]))
    assert await told.show() is True
    assert view.dropped == []
    assert view.shown == [("answer", "HelloHello")]
    assert view.notices == [GONE]


async def test_each_time_the_server_goes_is_told_once() -> None:
    told, view = answer(Server([AWAY, AWAY, *said("Hel"), AWAY, *said("lo", message="message-n"), end()]))
    assert await told.show() is True
    assert view.notices == [GONE, GONE]


async def test_an_answer_whose_server_was_killed_is_told_anew_and_shown_once() -> None:
    whole = said("Hello", message="message-2")
    server = Server(
        [*said("First.", message="message-1"), *said("Hel")[:2], AWAY, GAP],
        [of(RunStarted("agent-1", "run-1")), *said("First.", message="message-1"), *whole, end()],
        runs=(Run("running"),),
        stored=(Stored(message_type="assistant_message", id="message-1", content="First."),),
    )
    told, view = answer(server)
    assert await told.show() is True
    assert view.dropped == ["Hel"]
    assert view.shown == [("answer", "First."), ("answer", "Hello")]
    assert view.notices == [GONE]
    assert [asked[0] for asked in server.asked] == ["subscribe", "send", "subscribe", "run", "messages"]


async def test_where_the_run_is_over_meanwhile_the_stored_messages_tell_the_rest() -> None:
    server = Server(
        [*said("Hel")[:2], GAP],
        [],
        runs=(AwayError("not yet"), Run("completed", "end_turn")),
        stored=(Stored(message_type="assistant_message", id="message-m", content="Hello"),),
    )
    told, view = answer(server)
    assert await told.show() is True
    assert view.shown == [("answer", "Hello")]


async def test_a_run_that_failed_meanwhile_is_no_answer() -> None:
    told, view = answer(Server([GAP], [], runs=(Run("failed", "error"),)))
    assert await told.show() is False
    assert view.notices == ["No answer: the run failed"]


async def test_a_message_that_joined_another_run_is_followed_into_it() -> None:
    joined = Custom("wakeful.queue", Raw(b'{"change":"joined","runId":"run-1","into":"run-0"}'))
    told, view = answer(Server([of(joined), *said("Both.", run="run-0"), end(run="run-0")]))
    assert await told.show() is True
    assert view.shown == [("answer", "Both.")]


async def test_a_refusal_is_told_and_not_repeated() -> None:
    server = Server([], sends=(DeniedError(422, "the text holds a NUL"),))
    told, view = answer(server)
    assert await told.show() is False
    assert view.notices == ["No answer: the text holds a NUL"]
    assert [asked[0] for asked in server.asked] == ["subscribe", "send"]


async def test_a_busy_server_is_asked_again_under_the_same_id() -> None:
    busy = DeniedError(429, "too many wait", temporary=True)
    server = Server([*said("Hello"), end()], sends=(busy, busy))
    told, view = answer(server)
    assert await told.show() is True
    assert view.notices == ["Not now: too many wait. Trying again."]
    assert len({asked for asked in server.asked if asked[0] == "send"}) == 1
    assert len(server.asked) == 4


async def test_a_failure_of_the_model_is_told() -> None:
    told, view = answer(Server([of(RunError("the provider is busy", "llm_rate_limit"))]))
    assert await told.show() is False
    assert view.notices == ["No answer: the provider is busy"]


async def test_an_answer_that_ends_early_says_why() -> None:
    told, view = answer(Server([end("max_steps")]))
    assert await told.show() is True
    assert view.notices == ["The agent stopped early: max_steps"]


async def test_a_server_that_stays_away_or_refuses_is_given_up() -> None:
    told, view = answer(Server([*said("Hel")[:2], AWAY, EndedError(0, "it was tried for 600 s")]))
    assert await told.show() is False
    assert view.notices == [GONE, "No answer: it was tried for 600 s"]
    assert view.dropped == ["Hel"]


async def test_cancelling_asks_the_server_once() -> None:
    server = Server([*said("Hel"), end("cancelled")])
    told, view = answer(server)
    assert await told.cancel() is False  # no run yet
    assert await told.show() is True
    assert await told.cancel() is True
    assert await told.cancel() is False
    assert server.asked[2:] == [("cancel", "run-1")]
    assert view.notices == ["Stopped."]


@pytest.mark.parametrize(
    ("failure", "will"), [(AWAY, False), (DeniedError(404, "gone"), False), (DeniedError(409, "over"), True)]
)
async def test_a_cancel_that_does_not_reach_the_run_says_so(failure: Exception, will: bool) -> None:
    server = Server([end()])
    server.cancel_fails = failure
    told, _ = answer(server)
    await told.show()
    assert await told.cancel() is will


async def test_a_cancel_does_not_wait_for_a_server_that_is_away() -> None:
    server = Server([end()])
    told, _ = answer(server)
    await told.show()
    server.is_connected = False
    with anyio.fail_after(15):
        assert await told.cancel() is False
    assert ("cancel", "run-1") not in server.asked
