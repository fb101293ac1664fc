import anyio
import pytest

from actors import clock, load
from actors.commands import CreateConversation, DeleteConversation, InputMessage
from bench.provider import Provider
from storage import inbox, standing
from storage.errors import UnavailableError
from storage.inbox import Submission
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, TextPart
from storage.standing import Standing
from tests.actors.worlds import World, finish, world

ASKS = {"tool_calls": [{"id": "call-1", "name": "memory_insert", "arguments": {"label": "human"}}]}
RULE = {"type": "requires_approval", "tool_name": "memory_insert"}


def said(*otids: str) -> tuple[InputMessage, ...]:
    return tuple(InputMessage(role="user", content=(TextPart(otid),), otid=otid) for otid in otids)


async def recalled(w: World, agent_id: str, *otids: str) -> Standing | None:
    return await w.host.recall(agent_id, agent_id, otids=otids)


async def stored(w: World, agent_id: str, *otids: str) -> dict[str, str]:
    async with connection(w.pool) as conn:
        found = await standing.of(conn, agent_id, organization_id=DEFAULT_ORGANIZATION, otids=otids)
    assert found is not None
    return found.heard


async def agrees(w: World, agent_id: str, *otids: str) -> dict[str, str]:
    """Return what memory knows, which is what is stored."""
    found = await recalled(w, agent_id, *otids)
    assert found is not None
    assert (found.conversation.id, found.run_id, found.waits) == (agent_id, None, False)
    assert found.heard == await stored(w, agent_id, *otids)
    return found.heard


async def test_memory_knows_what_is_stored_whatever_became_of_it(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "ok"}, {"status": 400, "body": {"error": {"message": "no"}}}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first = finish(await w.ask(agent_id, messages=said("a", "b")))
        assert await agrees(w, agent_id, "a", "b", "c") == {"a": first.run_id, "b": first.run_id}
        refused = finish(await w.ask(agent_id, messages=said("c")))
        assert refused.status == "failed"
        assert await agrees(w, agent_id, "b", "c", "z") == {"b": first.run_id, "c": refused.run_id}
        await provider.script([{"text": "slow", "gate": "go"}])
        runs = await w.tell(agent_id, messages=said("d"))
        await provider.log(requests=3, keep=True)
        waits = await w.tell(agent_id, messages=said("e"))
        await w.host.ref(agent_id).cancel((waits.run_id,))
        await w.host.ref(agent_id).cancel((runs.run_id,))
        finish(await w.events(runs, agent_id))
        assert await agrees(w, agent_id, "d", "e") == {"d": runs.run_id, "e": waits.run_id}


async def test_the_database_is_read_for_the_first_question_alone(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, heard = 0, standing.heard

    async def counted(conn: Conn, conversation_id: str, *, since: int) -> list[tuple[str, str]]:
        nonlocal reads
        reads += 1
        return await heard(conn, conversation_id, since=since)

    monkeypatch.setattr(standing, "heard", counted)
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        for otid in "abc":
            run_id = finish(await w.ask(agent_id, messages=said(otid))).run_id
            found = await recalled(w, agent_id, otid, "new")
            assert found is not None
            assert found.heard == {otid: run_id}
    assert reads == 1


async def test_who_is_not_alive_or_unknown_or_asked_of_nothing_is_looked_up(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        assert await recalled(w, agent_id, "a") is None
        finish(await w.ask(agent_id, messages=said("a")))
        assert await recalled(w, agent_id) is None
        assert await w.host.recall(agent_id, "conv-1", otids=["a"]) is None
        assert await recalled(w, agent_id, "a") is not None


async def test_a_conversation_that_was_deleted_is_looked_up(pool: Pool, provider: Provider) -> None:
    conversation_id = clock.new_id("conv")
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        ref = w.host.ref(agent_id)
        await ref.edit(CreateConversation(conversation_id=conversation_id))
        assert await w.host.recall(agent_id, conversation_id, otids=["a"]) is not None
        await ref.edit(DeleteConversation(conversation_id))
        assert await w.host.recall(agent_id, conversation_id, otids=["a"]) is None


async def test_a_conversation_in_which_something_runs_is_looked_up(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "ok"}, {"text": "slow", "gate": "go"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, messages=said("a")))
        receipt = await w.tell(agent_id, messages=said("b"))
        assert await recalled(w, agent_id, "b") is None
        assert await stored(w, agent_id, "b") == {"b": receipt.run_id}
        await provider.open("go")
        finish(await w.events(receipt, agent_id))
        assert await agrees(w, agent_id, "b") == {"b": receipt.run_id}


async def test_a_conversation_that_waits_for_somebody_is_looked_up(pool: Pool, provider: Provider) -> None:
    await provider.script([ASKS])
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=(RULE,))
        assert finish(await w.ask(agent_id, messages=said("a"))).stop_reason == "requires_approval"
        assert await recalled(w, agent_id, "a") is None


async def test_what_may_have_been_accepted_without_an_answer_is_looked_up_until_it_is_found(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = inbox.accept

    async def deaf(conn: Conn, batch: list[Submission]) -> object:
        await accept(conn, batch)
        raise UnavailableError("the answer was lost")

    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, messages=said("a")))
        assert await recalled(w, agent_id, "b") is not None
        with monkeypatch.context() as patch:
            patch.setattr(inbox, "accept", deaf)
            with pytest.raises(UnavailableError):
                await w.tell(agent_id, messages=said("b"))
        assert await recalled(w, agent_id, "b") is None
        monkeypatch.setattr(load, "LANDED", 0.0)
        with anyio.fail_after(20):  # the poll tells of it
            while w.host._commons.load.waiting(agent_id) or len(await w.history(agent_id)) < 4:
                await anyio.sleep(0.01)
        w.host._commons.load.lost()
        assert await agrees(w, agent_id, "b") != {}


async def test_what_is_said_while_memory_is_read_is_not_missed(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = standing.heard

    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finish(await w.ask(agent_id, messages=said("a")))

        async def overtaken(conn: Conn, conversation_id: str, *, since: int) -> list[tuple[str, str]]:
            found = await heard(conn, conversation_id, since=since)
            finish(await w.ask(agent_id, messages=said("b")))
            return found

        with monkeypatch.context() as patch:
            patch.setattr(standing, "heard", overtaken)
            assert await recalled(w, agent_id, "b") is None
        assert await agrees(w, agent_id, "a", "b", "c")
