from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from gateway import chat_answer
from gateway.chat_answer import GONE, Answer
from gateway.chat_client import Agent, AwayError, ChatError, RefusedError, Run
from gateway.chat_transcript import Chunk
from tests.gateway.chat_views import Memory

Script = list[Chunk | Exception]

PING = Chunk(message_type="ping", run_id="run-1")
END = Chunk(message_type="stop_reason", stop_reason="end_turn")
BROKE = AwayError("the connection broke")


def word(text: str, seq: int, *, message: str = "m") -> Chunk:
    return Chunk(message_type="assistant_message", id=message, seq_id=seq, content=text)


class Server:
    """A client whose server follows a script: one list of events for each connection."""

    def __init__(
        self, *connections: Script, runs: tuple[Run, ...] = (), stored: tuple[Chunk, ...] = ()
    ) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.cancel_fails: Exception | None = None
        self._connections = list(connections)
        self._runs = list(runs)
        self._stored = stored

    def send(self, agent_id: str, text: str, *, otid: str) -> AsyncGenerator[Chunk]:
        self.asked.append(("send", agent_id, text, otid))
        return self._play()

    def resume(self, run_id: str, *, after: int) -> AsyncGenerator[Chunk]:
        self.asked.append(("resume", run_id, after))
        return self._play()

    async def _play(self) -> AsyncGenerator[Chunk]:
        for event in self._connections.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event

    async def run(self, run_id: str) -> Run:
        self.asked.append(("run", run_id))
        return self._runs.pop(0)

    async def messages(self, run_id: str) -> list[Chunk]:
        self.asked.append(("messages", run_id))
        return list(self._stored)

    async def cancel(self, agent_id: str, run_id: str) -> None:
        self.asked.append(("cancel", agent_id, run_id))
        if self.cancel_fails is not None:
            raise self.cancel_fails


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_answer, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(chat_answer, "POLL_SECONDS", 0.0)


def answer(server: Server) -> tuple[Answer, Memory]:
    view = Memory()
    return Answer(server, Agent("agent-1", "ada"), "hello", view), view  # type: ignore[arg-type]


async def test_an_answer_is_shown_to_its_end() -> None:
    server = Server([PING, word("Hel", 1), word("lo", 2), END])
    told, view = answer(server)
    assert await told.show() is True
    assert view.shown == [("answer", "Hello")]
    assert view.notices == []


async def test_a_message_that_was_not_acknowledged_is_sent_again_under_the_same_otid() -> None:
    server = Server([BROKE], [BROKE], [PING, word("Hello", 1), END])
    told, view = answer(server)
    assert await told.show() is True
    assert {asked[:3] for asked in server.asked} == {("send", "agent-1", "hello")}
    assert len({asked[3] for asked in server.asked}) == 1
    assert view.notices == [GONE]


async def test_a_cut_answer_is_taken_up_and_shown_once() -> None:
    server = Server([PING, word("Hel", 1_000_001), BROKE], [PING, word("Hello", 2_000_001, message="n"), END])
    told, view = answer(server)
    assert await told.show() is True
    assert server.asked[1:] == [("resume", "run-1", 0)]
    assert view.dropped == ["Hel"]
    assert view.shown == [("answer", "Hello")]
    assert view.notices == [GONE]


async def test_each_time_the_server_goes_is_told_once() -> None:
    server = Server([PING, BROKE], [BROKE], [PING, BROKE], [PING, word("Hello", 1), END])
    told, view = answer(server)
    assert await told.show() is True
    assert view.notices == [GONE, GONE]


async def test_a_stream_that_the_server_gave_up_is_taken_up_like_a_cut_one() -> None:
    gave_up = Chunk(message_type="error_message", error_type="stream_incomplete", message="it broke off")
    server = Server([PING, word("Hel", 1), gave_up], [PING, word("Hello", 1), END])
    told, view = answer(server)
    assert await told.show() is True
    assert view.shown == [("answer", "Hello")]


async def test_where_the_stream_is_gone_the_stored_messages_tell_the_rest() -> None:
    server = Server(
        [PING, word("Hel", 1), BROKE],
        [RefusedError(410, "gone")],
        runs=(Run("running"), Run("completed", "end_turn")),
        stored=(Chunk(message_type="assistant_message", id="m", content="Hello"),),
    )
    told, view = answer(server)
    assert await told.show() is True
    assert view.shown == [("answer", "Hello")]
    assert [asked[0] for asked in server.asked] == ["send", "resume", "run", "run", "messages"]


async def test_a_run_that_failed_meanwhile_is_no_answer() -> None:
    server = Server([PING, BROKE], [RefusedError(410, "gone")], runs=(Run("failed", "error"),))
    told, view = answer(server)
    assert await told.show() is False
    assert view.notices[-1] == "No answer: the run failed"


async def test_a_refusal_is_told_and_not_repeated() -> None:
    server = Server([RefusedError(422, "the text holds a NUL")])
    told, view = answer(server)
    assert await told.show() is False
    assert view.notices == ["No answer: the text holds a NUL"]


async def test_a_busy_server_is_asked_again_when_it_says() -> None:
    server = Server([AwayError("too many wait", retry_after=0.01)], [PING, word("Hello", 1), END])
    told, view = answer(server)
    assert await told.show() is True
    assert view.notices == ["Not now: too many wait. Trying again."]


async def test_a_failure_of_the_model_is_told() -> None:
    failed = Chunk(message_type="error_message", error_type="llm_rate_limit", message="the provider is busy")
    stop = Chunk(message_type="stop_reason", stop_reason="llm_api_error")
    told, view = answer(Server([PING, stop, failed]))
    assert await told.show() is False
    assert view.notices == ["No answer: the provider is busy"]


async def test_an_answer_that_ends_early_says_why() -> None:
    told, view = answer(Server([PING, Chunk(message_type="stop_reason", stop_reason="max_steps")]))
    assert await told.show() is True
    assert view.notices == ["The agent stopped early: max_steps"]


async def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_answer, "AWAY_SECONDS", 0.0)
    told, view = answer(Server([PING, word("Hel", 1), BROKE], [BROKE]))
    assert await told.show() is False
    assert view.notices[0] == GONE
    assert view.notices[-1].startswith("No answer: the connection broke; it was tried for ")
    assert view.dropped == ["Hel"]


async def test_cancelling_asks_the_server_once() -> None:
    stop = Chunk(message_type="stop_reason", stop_reason="cancelled")
    server = Server([PING, word("Hel", 1), stop])
    told, view = answer(server)
    assert await told.cancel() is False  # no run yet
    assert await told.show() is True
    assert await told.cancel() is True
    assert await told.cancel() is False
    assert server.asked[1:] == [("cancel", "agent-1", "run-1")]
    assert view.notices == ["Stopped."]


@pytest.mark.parametrize("failure", [BROKE, RefusedError(404, "gone"), ChatError("no key")])
async def test_a_cancel_that_does_not_reach_the_server_says_so(failure: Exception) -> None:
    server = Server([PING, END])
    server.cancel_fails = failure
    told, _ = answer(server)
    await told.show()
    with anyio.fail_after(1):
        assert await told.cancel() is False
