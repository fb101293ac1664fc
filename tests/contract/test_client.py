"""Our own Python client against a real server, over connections that end at any frame."""

from contextlib import AsyncExitStack

import anyio
import pytest

from bench.provider import Provider
from gateway.client import (
    Answered,
    Asked,
    DeniedError,
    Gap,
    Patience,
    Publication,
    Settled,
    Subscription,
    connect,
)
from gateway.client.events import RunFinished, RunStarted, StateDelta, StateSnapshot, TextDelta
from storage.pool import Pool
from tests.contract.cutting import cutting
from tests.gateway.rest.talking import MODEL, new_agent, talking
from tests.serving import listening

pytestmark = pytest.mark.timeout(90)

TEXT = " ".join(f"word{n}" for n in range(30))
QUICK = Patience(first_seconds=0.01, longest_seconds=0.05, away_seconds=30)
NOWHERE = "http://127.0.0.1:1"


async def told(items: Subscription, run: str) -> list[Publication]:
    """Return what is published of a run, to its end."""
    found: list[Publication] = []
    async for item in items:
        assert isinstance(item, Publication)
        if item.tags.get("run") == run:
            found.append(item)
            if isinstance(item.event, RunFinished):
                return found
    raise AssertionError("the run has no end")


def text(found: list[Publication]) -> str:
    return "".join(item.event.delta for item in found if isinstance(item.event, TextDelta))


@pytest.mark.parametrize("code", [1012, 0])
async def test_over_cuts_after_every_few_frames_everything_comes_once(
    pool: Pool, provider: Provider, code: int
) -> None:
    await provider.script([{"text": TEXT, "gap_ms": 2} for _ in range(12)])
    async with talking(pool, provider) as served, listening(served.app) as url, cutting(url) as proxy:
        agent = (await served.agent(model=MODEL))["id"]
        for frames in range(2, 14):
            proxy.plan, proxy.connections = (lambda c, f, _, n=frames: code if f == n and c < 9 else None), 0
            with anyio.fail_after(30):
                async with (
                    connect(proxy.url, patience=QUICK) as client,
                    client.subscribe(f"conv:{agent}") as items,
                ):
                    sent = await client.send(agent, f"say it, {frames}")
                    found = await told(items, sent.run)
            assert text(found) == TEXT
            assert isinstance(found[0].event, RunStarted)
            offsets = [item.offset for item in found]
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
        stored = await served.json("GET", f"/v1/agents/{agent}/messages?limit=200")
    spoken = [one["content"] for one in stored if one["message_type"] == "user_message"]
    assert len([one for one in spoken if one.startswith("say it")]) == 12


async def test_the_methods_answer_with_typed_values(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two", "gate": "first", "gate_after": 1}, {"text": "three"}])
    async with (
        talking(pool, provider) as served,
        listening(served.app) as url,
        connect(url) as client,
    ):
        agent = (await served.agent(model=MODEL, memory_blocks=[{"label": "human", "value": ""}]))["id"]
        async with client.subscribe(f"conv:{agent}") as items:
            sent = await client.send(agent, "hello", client_message_id="cm-1")
            again = await client.send(agent, "hello", client_message_id="cm-1")
            assert (again.run, again.replayed) == (sent.run, True)
            async for item in items:
                if isinstance(item, Publication) and isinstance(item.event, TextDelta):
                    break
            steered = await client.steer(sent.run, "and more")
            assert steered.disposition == "steered"
            block = await client.update_memory(agent, "human", "Likes rye.", if_version=0)
            assert (block.value, block.version) == ("Likes rye.", 1)
            with pytest.raises(DeniedError) as stale:
                await client.update_memory(agent, "human", "Likes tea.", if_version=0)
            assert stale.value.code == 409
            await provider.open("first")
            await told(items, sent.run)
            with pytest.raises(DeniedError) as over:
                await client.cancel(sent.run)
            assert over.value.code == 409
        assert (await client.context(agent))["context_window_size_current"] > 0
        past = await client.history(f"conv:{agent}", limit=1, reverse=True)
        assert past.offset == past.publications[0].offset


async def test_the_state_of_an_agent_is_followed(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url, connect(url) as client:
        agent = (await served.agent(model=MODEL, memory_blocks=[{"label": "human", "value": ""}]))["id"]
        async with client.subscribe(f"agent:{agent}:state") as items:
            first = await _next(items)
            assert isinstance(first.event, StateSnapshot)
            await client.update_memory(agent, "human", "Likes rye.")
            with anyio.fail_after(10):
                while b"rye" not in _json(changed := await _next(items)):
                    pass
            assert isinstance(changed.event, StateSnapshot | StateDelta)


async def test_what_is_asked_of_a_user_is_answered_and_seen_once_over_a_cut(
    pool: Pool, provider: Provider
) -> None:
    call = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes rye."}}
    await provider.script([{"tool_calls": [call]}, {"text": "Noted."}])
    async with (
        talking(pool, provider) as served,
        listening(served.app) as url,
        cutting(url) as proxy,
        connect(proxy.url, patience=QUICK) as client,
        client.notices() as notices,
    ):
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": ""}])
        gate = f"/v1/agents/{agent}/tools/approval/memory_insert"
        await served.json("PATCH", gate, json={"requires_approval": True})
        with anyio.fail_after(30):
            sent = await client.send(agent, "I like rye.")
            asked = await anext(notices)
            assert isinstance(asked, Asked)
            assert (asked.agent, asked.conversation, asked.run) == (agent, agent, sent.run)
            assert asked.interrupts[0].metadata["name"] == "memory_insert"
            proxy.cut()
            yes = Answered(interrupt_id=asked.interrupts[0].id, payload={"approved": True})
            await client.resume(asked.conversation, [yes])
            settled = await anext(notices)
        assert isinstance(settled, Settled)
        assert [one.approved for one in settled.decisions] == [True]


async def _next(items: Subscription) -> Publication:
    with anyio.fail_after(10):
        item = await anext(items)
    assert isinstance(item, Publication)
    return item


def _json(item: Publication) -> bytes:
    return repr(item.event).encode()


async def test_a_server_that_began_anew_says_honestly_what_it_forgot(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": TEXT}])
    async with (
        cutting(NOWHERE) as proxy,
        connect(proxy.url, patience=QUICK) as client,
        AsyncExitStack() as stack,
    ):
        async with talking(pool, provider) as served, listening(served.app) as url:
            proxy.target = url
            agent = (await served.agent(model=MODEL))["id"]
            items = await stack.enter_async_context(client.subscribe(f"conv:{agent}"))
            await told(items, (await client.send(agent, "hello")).run)
            proxy.target = NOWHERE
        proxy.cut()
        async with talking(pool, provider) as again, listening(again.app) as url:
            proxy.target = url
            with anyio.fail_after(20):
                gap = await anext(items)
            assert isinstance(gap, Gap)
            found = await told(items, (await client.send(agent, "hello again")).run)
            assert isinstance(found[0].event, RunStarted)
