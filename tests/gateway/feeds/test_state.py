"""The channel of an agent's state: the snapshot and every patch after it always give the state as it is."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from bench.provider import Provider
from gateway.auth import LOOPBACK, READ, Caller
from gateway.feeds.catching_up import PIECE_BYTES
from gateway.feeds.feeds import Feeds
from gateway.realtime.protocol import PERMISSION_DENIED, PERMISSION_REVOKED, History, ProtocolError, Subscribe
from storage.pool import Pool
from tests.gateway.feeding import Recorder, published, rest_of
from tests.gateway.rest.talking import new_agent, talking, user
from tests.gateway.state_watching import Viewer, view
from tests.serving import Served

pytestmark = pytest.mark.timeout(90)

READER = Caller("reader", scopes=frozenset((READ,)))
BLOCKS = [{"label": "human", "value": "Ada", "limit": 500, "description": "who"}]


@asynccontextmanager
async def watching(pool: Pool, provider: Provider) -> AsyncGenerator[tuple[Served, Feeds]]:
    async with talking(pool, provider) as served:
        feeds = Feeds(served.host, look_every=0.05)
        try:
            yield served, feeds
        finally:
            await feeds.aclose()


async def fresh(feeds: Feeds, channel: str) -> object:
    """Return the state as somebody sees it who comes now."""
    viewer, subscribed = await view(feeds, channel)
    subscribed.close()
    return viewer.document


async def agrees(feeds: Feeds, viewer: Viewer, channel: str) -> None:
    """Wait until what is stored, read anew, is what the viewer has."""
    with anyio.fail_after(15):
        while True:
            anew = Feeds(feeds._host)
            try:
                found = await fresh(anew, channel)
            finally:
                await anew.aclose()
            if found == viewer.document:
                return
            await anyio.sleep(0.05)


async def test_the_state_of_an_agent_that_sleeps_is_read_from_what_is_stored(
    pool: Pool, provider: Provider
) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=BLOCKS)
        assert served.host.alive(agent_id) is None
        viewer, subscribed = await view(feeds, f"agent:{agent_id}:state")
        assert (subscribed.recovered, subscribed.recoverable) == (False, True)
        state = viewer.document
        [(label, block)] = state["memory"]["blocks"].items()
        assert label == "human"
        assert {k: v for k, v in block.items() if k != "id"} == {
            "value": "Ada",
            "limit": 500,
            "version": 0,
            "description": "who",
            "read_only": False,
        }
        assert (state["status"], state["queue"]) == ("idle", 0)
        assert state["context"]["used"] == sum(state["context"]["tokens"].values())
        context = await served.json("GET", f"/v1/agents/{agent_id}/context")
        assert state["context"]["used"] == context["context_window_size_current"]
        assert state["context"]["tokens"]["core_memory"] == context["num_tokens_core_memory"]


async def test_a_large_memory_comes_in_pieces_and_its_history_is_a_part_that_says_so(
    pool: Pool, provider: Provider
) -> None:
    blocks = [{"label": f"notes-{n}", "value": "x" * 150_000, "limit": 200_000} for n in range(6)]
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=blocks)
        channel = f"agent:{agent_id}:state"
        viewer = Viewer()
        subscribed = await feeds.subscribe(LOOPBACK, Subscribe(channel), viewer)
        pieces = [subscribed.publications, *rest_of(subscribed)]
        assert [len(piece) for piece in pieces] == [1, 1, 1]
        assert max(len(pub) for piece in pieces for pub in piece) < PIECE_BYTES + 1024
        whole, _ = await view(feeds, channel)
        assert set(whole.document["memory"]["blocks"]) == {block["label"] for block in blocks}
        assert whole.offset == subscribed.offset + 1
        [last] = (await feeds.history(LOOPBACK, History(channel, limit=1))).publications
        told = published(last)["data"]
        assert len(told["snapshot"]["memory"]["blocks"]) == 2
        assert told["metadata"]["wakeful"] == {
            "truncated": True,
            "blocks": 6,
            "see": f"/v1/agents/{agent_id}/core-memory/blocks",
        }


async def test_a_run_shows_in_status_and_context(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served)
        await provider.script([{"text": "one two", "gate": "open"}])
        viewer, _ = await view(feeds, f"agent:{agent_id}:state")
        before = viewer.document["context"]["used"]
        async with anyio.create_task_group() as group:
            group.start_soon(_send, served, agent_id, "hello there")
            await viewer.shows(lambda state: state["status"] == "running")
            await provider.open("open")
        await viewer.shows(lambda state: state["status"] == "idle" and state["context"]["used"] > before)
        assert viewer.document["context"]["tokens"]["messages"] > 0
        await agrees(feeds, viewer, f"agent:{agent_id}:state")


async def test_an_edit_is_shown_as_the_least_change(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=BLOCKS)
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        channel = f"agent:{agent_id}:state"
        viewer, _ = await view(feeds, channel)
        sink = Recorder()
        await feeds.subscribe(LOOPBACK, Subscribe(channel), sink)
        path = f"/v1/agents/{agent_id}/core-memory/blocks/human"
        await served.json("PATCH", path, json={"value": "Grace"})
        await viewer.shows(lambda state: state["memory"]["blocks"]["human"]["value"] == "Grace")
        [patch] = [frame.pub for frame in sink.frames if b"Grace" in frame.pub]
        assert b"description" not in patch
        assert b"/memory/blocks/human/value" in patch


async def test_a_block_that_is_written_elsewhere_is_shown_though_the_agent_sleeps(
    pool: Pool, provider: Provider
) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=BLOCKS)
        viewer, _ = await view(feeds, f"agent:{agent_id}:state")
        block_id = viewer.document["memory"]["blocks"]["human"]["id"]
        await served.json("PATCH", f"/v1/blocks/{block_id}", json={"value": "Grace"})
        await viewer.shows(lambda state: state["memory"]["blocks"]["human"]["value"] == "Grace")


async def test_any_history_of_edits_gives_the_state_that_a_newcomer_sees(
    pool: Pool, provider: Provider
) -> None:
    """Snapshot and patches, against a snapshot taken anew."""
    chance = random.Random(4)
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=BLOCKS)
        channel = f"agent:{agent_id}:state"
        viewer, _ = await view(feeds, channel)
        paced, _ = await view(feeds, channel, max_rate=20)
        plain, _ = await view(feeds, channel, caller=READER)
        base = f"/v1/agents/{agent_id}"
        loose: list[str] = []
        for step in range(40):
            match chance.randrange(6):
                case 0:
                    block = await served.json(
                        "POST", "/v1/blocks/", json={"label": f"b{step % 3}/x", "value": "v"}
                    )
                    loose.append(block["id"])
                case 1 if loose:
                    block_id = loose.pop()
                    path = f"{base}/core-memory/blocks/attach/{block_id}"
                    response = await served.http.patch(path)
                    assert response.status_code in (200, 409)
                case 2:
                    labels = [b["label"] for b in await served.json("GET", f"{base}/core-memory/blocks")]
                    if labels:
                        path = f"{base}/core-memory/blocks/{chance.choice(labels)}"
                        await served.http.patch(path, json={"value": f"value {step}"})
                case 3:
                    blocks = await served.json("GET", f"{base}/core-memory/blocks")
                    if len(blocks) > 1:
                        path = f"{base}/core-memory/blocks/detach/{chance.choice(blocks)['id']}"
                        await served.http.patch(path)
                case 4:
                    await served.json("POST", f"{base}/messages", json=user(f"message {step}"))
                case _:
                    await served.json("PATCH", base, json={"context_window_limit": 8000 + step})
        await agrees(feeds, viewer, channel)
        assert viewer.taken > 10
        await paced.shows(lambda state: state == viewer.document)
        assert plain.document == {k: v for k, v in viewer.document.items() if k != "memory"}


async def test_whoever_saw_the_last_state_gets_nothing_twice(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=BLOCKS)
        channel = f"agent:{agent_id}:state"
        keeper, first = await view(feeds, channel)
        place = (first.epoch, first.offset)
        again, second = await view(feeds, channel, since=place, document=keeper.document)
        assert second.recovered
        assert second.publications == []
        block_id = keeper.document["memory"]["blocks"]["human"]["id"]
        await served.json("PATCH", f"/v1/blocks/{block_id}", json={"value": "Grace"})
        await keeper.shows(lambda state: state["memory"]["blocks"]["human"]["value"] == "Grace")
        late, third = await view(feeds, channel, since=place)
        assert not third.recovered
        assert late.document == keeper.document == again.document


async def test_who_may_not_see_thoughts_sees_no_memory(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, memory_blocks=BLOCKS)
        viewer, _ = await view(feeds, f"agent:{agent_id}:state", caller=READER)
        assert set(viewer.document) == {"context", "status", "queue"}
        with pytest.raises(ProtocolError) as refused:
            await view(feeds, f"agent:{agent_id}:state", caller=Caller("x", agents=frozenset()))
        assert refused.value.code == PERMISSION_DENIED


async def test_a_deleted_agent_ends_its_state(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served)
        viewer, _ = await view(feeds, f"agent:{agent_id}:state")
        await served.json("DELETE", f"/v1/agents/{agent_id}")
        assert [(channel, code) for channel, code, _ in viewer.over] == [
            (f"agent:{agent_id}:state", PERMISSION_REVOKED)
        ]
        assert feeds._states._states == {}
        with pytest.raises(ProtocolError):
            await view(feeds, f"agent:{agent_id}:state")


async def test_feeds_of_state_listen_only_while_somebody_follows(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served)
        _, one = await view(feeds, f"agent:{agent_id}:state")
        _, two = await view(feeds, "fleet")
        assert served.host.logs.heard == 2
        one.close()
        two.close()
        assert served.host.logs.heard == 0
        assert feeds._states._states == {}
        assert feeds._states._fleets == {}


async def _send(served: Served, agent_id: str, text: str) -> None:
    await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user(text))
