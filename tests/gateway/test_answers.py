"""Answers from a run, wherever its events are: in the log, partly in it, or only stored."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from actors.channels import Channel
from actors.errors import LogTrimmedError
from actors.events import Logged, MessageCommitted, RunFinished
from bench.provider import Provider
from gateway import answers
from gateway.answers import Following
from storage.errors import NotFoundError, UnavailableError
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Message
from tests.gateway.clocks import manual_clock
from tests.gateway.rest.talking import events, kinds, new_agent, talking, user
from tests.serving import Served
from tests.storage import histories


async def finished_run(served: Served, agent_id: str, *turns: str) -> Following:
    """Run a turn; return how to follow it."""
    answer = await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user(*turns or ("hi",)))
    return following(agent_id, answer["usage"]["run_ids"][0])


def following(agent_id: str, run_id: str) -> Following:
    return Following(
        run_id=run_id, agent_id=agent_id, conversation_id=agent_id, organization_id=DEFAULT_ORGANIZATION
    )


async def collected(served: Served, run: Following) -> list[Logged]:
    with anyio.fail_after(10):
        return [logged async for batch in answers.follow(served.host, run) for logged in batch]


def messages(log: list[Logged]) -> list[Message]:
    return [e.event.message for e in log if isinstance(e.event, MessageCommitted)]


async def test_a_run_is_told_the_same_from_the_log_and_from_what_is_stored(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        run = await finished_run(served, await new_agent(served))
        live = await collected(served, run)
        served.host.logs.budget_bytes = 0
        served.host.logs.trim()
        stored = await collected(served, run)
    assert [m.id for m in messages(live)] == [m.id for m in messages(stored)]
    assert [m.content for m in messages(live)] == [m.content for m in messages(stored)]
    assert isinstance(live[-1].event, RunFinished)
    assert stored[-1].event == live[-1].event


async def test_an_answer_does_not_need_the_log(pool: Pool, provider: Provider) -> None:
    body = user("hi", message={"otid": "mine"})
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        path = f"/v1/agents/{agent_id}/messages"
        first = await served.json("POST", path, json=body)
        served.host.logs.budget_bytes = 0
        served.host.logs.trim()
        assert await served.json("POST", path, json=body) == first


async def test_a_log_that_is_trimmed_under_a_follower_is_completed_from_what_is_stored(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen committed is not said again."""
    async with talking(pool, provider) as served:
        run = await finished_run(served, await new_agent(served))
        whole = await collected(served, run)
        [sent, said] = messages(whole)
        place = next(i for i, e in enumerate(whole) if e.event == MessageCommitted(run.run_id, sent))

        async def cut(_: Channel, run_id: str, hand: object) -> AsyncGenerator[list[Logged], None]:
            yield whole[: place + 1]
            raise LogTrimmedError(run_id)

        monkeypatch.setattr(Channel, "follow", cut)
        told = await collected(served, run)
    assert [m.id for m in messages(told)] == [sent.id, said.id]


async def test_a_run_that_nobody_works_on_is_waited_for_and_then_given_up(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        async with connection(pool) as conn:
            run_id = await histories.run(conn, agent_id)
        given_up = anyio.Event()

        async def wait() -> None:
            with pytest.raises(LogTrimmedError):
                await collected(served, following(agent_id, run_id))
            given_up.set()

        with manual_clock() as clock:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                while not given_up.is_set():
                    await clock.advance(answers.WAKE_POLL)
                    async with connection(pool) as conn:  # the database answers in real time
                        await conn.execute("select 1")
                assert clock.seconds - 1000 >= answers.WAKE_SECONDS


async def test_a_run_that_is_missing_or_somebody_elses_is_not_found(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        with pytest.raises(NotFoundError):
            await collected(served, following(agent_id, "run-00000000-0000-4000-8000-000000000000"))


@pytest.mark.parametrize(
    ("failure", "kind", "detail"),
    [
        (
            UnavailableError("it is gone"),
            "stream_incomplete",
            "the database is not available; nothing was accepted",
        ),
        (RuntimeError("a secret"), "internal_error", None),
    ],
)
async def test_a_stream_that_breaks_off_tells_its_client_and_no_secret(
    pool: Pool,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    kind: str,
    detail: str | None,
) -> None:
    async def broken(*_: Any) -> AsyncGenerator[list[Logged], None]:
        raise failure
        yield []

    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        monkeypatch.setattr(answers, "follow", broken)
        response = await served.http.post(f"/v1/agents/{agent_id}/messages/stream", json=user("hi"))
    shown = events(response.text)
    assert kinds(shown) == ["ping", "stop_reason", "error_message"]
    assert (shown[-1]["error_type"], shown[-1]["detail"]) == (kind, detail)
    assert "secret" not in response.text


async def test_a_client_that_leaves_does_not_end_the_run(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three", "gate": "go", "gate_after": 1}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)

        async def leave() -> None:
            await served.http.post(f"/v1/agents/{agent_id}/messages/stream", json=user("hi"))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(leave)
                await provider.log(requests=1, keep=True)
                tasks.cancel_scope.cancel()
            [run] = await served.json("GET", "/v1/runs/", params={"active": True})
            await provider.open("go")
            told = await collected(served, following(agent_id, run["id"]))
    assert isinstance(told[-1].event, RunFinished)
    assert told[-1].event.status == "completed"
