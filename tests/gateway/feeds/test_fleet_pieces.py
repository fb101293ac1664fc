"""A fleet of thousands: shown in pieces of a bounded size, looked at a part at a time, and never wrong."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import jsonpatch
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.channels import Logs
from actors.events import BlockDetached
from actors.host import Host
from actors.status import AgentFigures
from gateway.auth import LOOPBACK
from gateway.client import events as client_events
from gateway.client import frames as client_frames
from gateway.client import subscription as client_subscription
from gateway.feeds import fleet, fleet_pieces, states
from gateway.feeds.catching_up import ForgottenError
from gateway.feeds.feeds import Feeds
from gateway.realtime.protocol import History, Subscribe
from storage.records import DEFAULT_ORGANIZATION
from tests.gateway.feeding import Recorder, published, rest_of
from tests.gateway.state_watching import Viewer

PUBLICATION_BYTES = 256 * 1024


class Herd:
    """As much of a host as a fleet needs: agents that live, and say how they do."""

    pool = None

    def __init__(self, count: int) -> None:
        self.logs = Logs(64 << 20)
        self.on_block: list[Any] = []
        self.queued: dict[str, int] = {f"agent-{number:05}": 0 for number in range(count)}
        self.looked_at = 0

    def living(self) -> list[str]:
        return list(self.queued)

    def alive(self, agent_id: str) -> Any:
        if agent_id not in self.queued:
            return None
        agent = SimpleNamespace(id=agent_id, name="a", organization_id=DEFAULT_ORGANIZATION, hidden=False)
        return SimpleNamespace(agent=agent, herd=self)

    def is_asking(self, agent_id: str) -> bool:
        return False

    def work(self, agent_id: str) -> None:
        """Let an agent have more to do, and say so."""
        self.queued[agent_id] = self.queued.get(agent_id, 0) + 1
        self.logs.channel(agent_id, agent_id).publish(BlockDetached(None, "block", "human"))

    def document(self) -> dict[str, int]:
        return dict(self.queued)


def figures(actor: Any) -> AgentFigures:
    actor.herd.looked_at += 1
    return AgentFigures(
        agent_id=actor.agent.id,
        name=actor.agent.name,
        status="running" if actor.herd.queued[actor.agent.id] else "idle",
        queued=actor.herd.queued[actor.agent.id],
        tokens_per_second=12.5,
        first_token_ms=123.4,
        step_ms=1234.5,
        checkpoint_ms=2.5,
        context_tokens=12_345,
        context_limit=128_000,
    )


@pytest.fixture(autouse=True)
def nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database know of no further agents."""

    @asynccontextmanager
    async def connection(_: object) -> AsyncGenerator[None]:
        yield

    async def names(*_: object, **__: object) -> list[tuple[str, str]]:
        return []

    monkeypatch.setattr(fleet, "connection", connection)
    monkeypatch.setattr(fleet.agents, "names", names)
    monkeypatch.setattr("actors.status.figures", figures)


def feeds_of(herd: Herd, **more: Any) -> Feeds:
    return Feeds(cast("Host", herd), **more)


def shown_by(viewer: Viewer) -> dict[str, int]:
    return {agent_id: doing["queued"] for agent_id, doing in viewer.document["agents"].items()}


def pub_of(publication: bytes) -> client_frames.Pub:
    return msgspec.json.decode(publication, type=client_frames.Pub)


def shown_to(following: client_subscription.Subscription) -> Any:
    """Return the document of a client that read everything that was handed to it."""
    document: Any = None
    while following._items:
        item = following._items.popleft()
        if isinstance(item, client_subscription.Gap):
            document = None
        elif isinstance(item.event, client_events.StateSnapshot):
            document = item.event.snapshot
        else:
            assert isinstance(item.event, client_events.StateDelta)
            document = jsonpatch.apply_patch(document, list(item.event.delta))
    return document


async def test_a_large_fleet_comes_in_pieces_of_a_bounded_size() -> None:
    herd = Herd(10_000)
    feeds = feeds_of(herd)
    viewer = Viewer()
    subscribed = await feeds.subscribe(LOOPBACK, Subscribe("fleet"), viewer)
    assert len(subscribed.publications) == 1
    assert sum(map(len, subscribed.publications)) < PUBLICATION_BYTES
    pieces = rest_of(subscribed)
    assert len(pieces) == 19
    assert all(sum(map(len, piece)) < PUBLICATION_BYTES for piece in pieces)
    viewer.begin(subscribed)
    for piece in pieces:
        for pub in piece:
            viewer.send(SimpleNamespace(pub=pub))  # type: ignore[arg-type]
    assert shown_by(viewer) == herd.document()
    await feeds.aclose()


async def test_who_is_cut_off_between_two_pieces_has_seen_nothing_whole() -> None:
    herd = Herd(1200)
    feeds = feeds_of(herd)
    subscribed = await feeds.subscribe(LOOPBACK, Subscribe("fleet"), Viewer())
    assert subscribed.rest is not None
    offsets = [subscribed.offset, *(published(pub)["offset"] for pub in subscribed.rest.piece())]
    for offset in offsets:
        request = Subscribe("fleet", True, subscribed.epoch, offset)
        assert not (await feeds.subscribe(LOOPBACK, request, Viewer())).recovered
    (last,) = (published(pub)["offset"] for piece in rest_of(subscribed) for pub in piece)
    request = Subscribe("fleet", True, subscribed.epoch, last)
    again = await feeds.subscribe(LOOPBACK, request, Viewer())
    assert (again.recovered, again.publications, again.rest) == (True, [], None)
    await feeds.aclose()


async def test_a_client_that_takes_each_place_once_is_shown_all_of_a_fleet_that_has_changed_before() -> None:
    herd = Herd(2200)
    feeds = feeds_of(herd)
    rest_of(await feeds.subscribe(LOOPBACK, Subscribe("fleet"), Recorder()))
    for _ in range(3):
        herd.work("agent-00000")
        feeds._states._look()
    following = client_subscription.Subscription("fleet", None)
    for _ in range(2):  # the second time it was cut off before the end
        subscribed = await feeds.subscribe(LOOPBACK, following.request, Recorder())
        following.join(
            client_frames.Subscribed(
                recoverable=subscribed.recoverable,
                epoch=subscribed.epoch,
                offset=subscribed.offset,
                recovered=subscribed.recovered,
                publications=tuple(map(pub_of, subscribed.publications)),
            )
        )
    for piece in rest_of(subscribed):
        for pub in piece:
            following.push(pub_of(pub))
    document = shown_to(following)
    assert {agent_id: doing["queued"] for agent_id, doing in document["agents"].items()} == herd.document()
    await feeds.aclose()


@settings(max_examples=25, deadline=None)
@given(st.data())
async def test_whatever_happens_meanwhile_the_newcomer_sees_the_fleet_as_it_is(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet_pieces, "AGENTS_PER_PUBLICATION", 3)
        patch.setattr(fleet, "AGENTS_PER_PUBLICATION", 3)
        herd = Herd(data.draw(st.integers(0, 12)))
        feeds = feeds_of(herd)
        viewer, early = Viewer(), Viewer()
        early.begin(await feeds.subscribe(LOOPBACK, Subscribe("fleet"), early))
        subscribed = await feeds.subscribe(LOOPBACK, Subscribe("fleet"), viewer)
        for pub in subscribed.publications:
            viewer.send(SimpleNamespace(pub=pub))  # type: ignore[arg-type]
        known = st.sampled_from([f"agent-{number:05}" for number in range(14)])
        rounds = 0
        while subscribed.rest is not None and subscribed.rest.behind:
            rounds += 1
            for agent_id in data.draw(st.lists(known, max_size=4)) if rounds < 8 else ():
                if data.draw(st.booleans()):
                    herd.work(agent_id)
                elif agent_id in herd.queued:
                    del herd.queued[agent_id]
                    feeds._states.agent_gone(agent_id)
            feeds._states._look()
            for pub in subscribed.rest.piece():
                viewer.send(SimpleNamespace(pub=pub))  # type: ignore[arg-type]
        herd.work("agent-00000")
        feeds._states._look()
        assert shown_by(viewer) == shown_by(early) == herd.document()
        await feeds.aclose()


async def test_a_newcomer_that_is_too_slow_for_what_changes_has_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_pieces, "MAX_CHANGED", 10)
    herd = Herd(1200)
    feeds = feeds_of(herd)
    subscribed = await feeds.subscribe(LOOPBACK, Subscribe("fleet"), Recorder())
    assert subscribed.rest is not None
    for agent_id in list(herd.queued)[:20]:
        herd.work(agent_id)
    feeds._states._look()
    with pytest.raises(ForgottenError):
        subscribed.rest.piece()
    await feeds.aclose()


async def test_a_large_fleet_is_looked_at_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "LOOK_PAUSE", 0.0)
    herd = Herd(1000)
    feeds = feeds_of(herd)
    viewer = Viewer()
    viewer.begin(await feeds.subscribe(LOOPBACK, Subscribe("fleet"), viewer))
    for agent_id in tuple(herd.queued):
        herd.work(agent_id)
    herd.looked_at = 0
    feeds._states._look()
    assert herd.looked_at == states.LOOK_AGENTS
    await viewer.shows(lambda document: all(doing["queued"] for doing in document["agents"].values()))
    assert herd.looked_at == 1000
    await feeds.aclose()


async def test_the_history_of_a_large_fleet_says_that_it_is_a_part() -> None:
    feeds = feeds_of(Herd(700))
    (pub,) = (await feeds.history(LOOPBACK, History("fleet", limit=1))).publications
    data = published(pub)["data"]
    assert len(data["snapshot"]["agents"]) == 500
    assert data["metadata"] == {"wakeful": {"truncated": True, "agents": 700, "see": "agent.list"}}
    await feeds.aclose()


async def test_nothing_is_kept_of_newcomers_who_have_seen_everything() -> None:
    feeds = feeds_of(Herd(1200))
    subscribed = await feeds.subscribe(LOOPBACK, Subscribe("fleet"), Recorder())
    rest_of(subscribed)
    assert isinstance(subscribed.rest, fleet_pieces.FleetPieces)
    assert subscribed.rest._agents == []
    subscribed.rest = None
    await asyncio.sleep(0)
    (feed,) = feeds._states._fleets.values()
    assert len(feed._shown) == 0
    await feeds.aclose()
