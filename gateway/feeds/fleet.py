"""The channel of the fleet: how every agent is doing that the subscriber may see, twice a second at most."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar
from weakref import WeakSet

import anyio

from actors import clock, status
from actors.channels import Channel
from actors.events import Event, Position
from actors.host import Host
from actors.status import AgentFigures
from gateway.auth import Caller
from gateway.feeds import frames, json_patch
from gateway.feeds.choices import Choice
from gateway.feeds.fleet_pieces import AGENTS_PER_PUBLICATION, Doing, FleetPieces, path_of, shown
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, joined_state, seen
from gateway.realtime.protocol import Subscribe
from storage import agents
from storage.pool import connection

MAX_AGENTS = 1000  # that are shown though they sleep; those that live are all shown
READ_SECONDS = 10.0
READ_AGENTS = 100  # looked at at once, some 20 µs each

T = TypeVar("T")
Key = tuple[str, frozenset[str] | None]  # the organisation, and which of its agents; None: all


def key_of(caller: Caller) -> Key:
    """Return which fleet a caller sees; callers who see the same one share it."""
    return caller.organization_id, caller.agents


class Activity:
    """Which agents did something since the last look: nothing else has to be looked at."""

    def __init__(self, host: Host) -> None:
        self._touched: set[str] = set()
        self._waiting: dict[str, None] = {}  # to be looked at, in the order in which they are
        self._restless: set[str] = set()  # those of which figures change by the passing of time alone
        self._host = host
        self._stop = host.logs.watch_all(self._hear)

    def _hear(self, channel: Channel | None, _offset: int, _event: Event) -> None:
        if channel is not None:
            self._touched.add(channel.agent_id)

    def gather(self) -> None:
        """Let the next looks be at everything that may have changed until now."""
        self._waiting |= dict.fromkeys(self._touched | self._restless)
        self._touched, self._restless = set(), set()

    @property
    def waits(self) -> bool:
        """Whether there is more to look at."""
        return bool(self._waiting)

    def look(self, most: int) -> dict[str, AgentFigures | None]:
        """Return the figures of so many agents that may have changed; None of those that do not live any
        more."""
        found: dict[str, AgentFigures | None] = {}
        for agent_id in tuple(islice(self._waiting, most)):
            del self._waiting[agent_id]
            actor = self._host.alive(agent_id)
            doing = found[agent_id] = None if actor is None else status.figures(actor)
            if doing is not None and doing.status != "idle":
                self._restless.add(agent_id)
        return found

    def stop(self) -> None:
        """Hear no more."""
        self._stop()


class FleetFeed:
    """Shows one fleet. Its log is the last state alone: who missed a change gets it whole, in pieces."""

    def __init__(self, host: Host, key: Key, *, left: Callable[["FleetFeed"], None]) -> None:
        self.name = "fleet"
        self.key = key
        self.waiting = 0  # subscribers that are about to join
        self.audience = Audience(lambda: left(self))
        self.agents: dict[str, Doing] = {}
        self._host = host
        self._epoch = clock.new_epoch()
        self._offset = 1
        self._known = False
        self._finding_out = asyncio.Lock()
        self._gone: set[str] = set()  # deleted while the database was asked
        self._shown: WeakSet[FleetPieces] = WeakSet()  # to those who are not told of changes yet

    def __len__(self) -> int:
        return len(self.audience) + self.waiting

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        return Position(self._epoch, self._offset)

    async def ready(self) -> None:
        """Return when it is known which agents there are. Lets others work between two parts of many.

        Raises:
            UnavailableError, TimeoutError
        """
        with anyio.fail_after(READ_SECONDS):
            async with self._finding_out:
                if not self._known:
                    await self._find_out()

    async def _find_out(self) -> None:
        organization_id, among = self.key
        wanted = None if among is None else sorted(among)
        async with connection(self._host.pool) as conn:
            names = await agents.names(conn, organization_id=organization_id, among=wanted, limit=MAX_AGENTS)
        for count, agent_id in enumerate(self._host.living()):
            if count % READ_AGENTS == 0:
                await asyncio.sleep(0)
            actor = self._host.alive(agent_id)
            if actor is not None and self._sees(agent_id):
                self.agents[agent_id] = _doing(status.figures(actor))
        for agent_id, name in names:
            if agent_id not in self._gone:
                self.agents.setdefault(agent_id, _resting(name))
        self._known = True
        self._gone.clear()

    def join(self, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe, and return the fleet unless it was seen already: one step. Call it when `ready`.

        Of a large one the first part is in the answer, which stands before the state as it is now.
        """
        assert self._known
        self.audience.join(member)
        at = self.position
        if seen(request, at):
            return joined_state(member, request, at=at, publications=None)
        pieces = FleetPieces(self, member)
        self._shown.add(pieces)
        publications = pieces.piece()
        if not pieces.behind:
            return joined_state(member, request, at=at, publications=publications)
        begun = Position(at.epoch, at.offset - 1)
        return joined_state(member, request, at=begun, publications=publications, rest=pieces)

    def snapshot(self, choice: Choice) -> list[bytes]:
        """Return the fleet as one publication; of a large one a part, which says so."""
        part = dict(islice(self.agents.items(), AGENTS_PER_PUBLICATION))
        told = None
        if len(part) < len(self.agents):
            told = {"truncated": True, "agents": len(self.agents), "see": "agent.list"}
        frame = frames.of_snapshot(self.name, self._offset, {"agents": part}, told=told)
        return [frame.pub] if choice.takes(frame) else []

    def _sees(self, agent_id: str) -> bool:
        organization_id, among = self.key
        if among is not None and agent_id not in among:
            return False
        actor = self._host.alive(agent_id)
        return actor is not None and actor.agent.organization_id == organization_id and not actor.agent.hidden

    def look(self, looked: dict[str, AgentFigures | None]) -> None:
        """Show what changed of these agents."""
        changed: dict[str, Doing] = {}
        for agent_id, figures in looked.items():
            before = self.agents.get(agent_id)
            if figures is not None and self._sees(agent_id):
                doing = _doing(figures)
            elif figures is None and before is not None:  # it sleeps
                doing = {**before, "status": _asleep(self._host, agent_id), **_NOTHING}
            else:
                continue
            if doing != before:
                changed[agent_id] = doing
        self.agents |= changed
        self._publish([shown(agent_id, doing) for agent_id, doing in changed.items()], changed)

    def gone(self, agent_id: str) -> None:
        """An agent was deleted."""
        if not self._known:
            self._gone.add(agent_id)
        if self.agents.pop(agent_id, None) is not None:
            self._publish([{"op": "remove", "path": path_of(agent_id)}], [agent_id])

    def _publish(self, patch: list[json_patch.Operation], changed: Iterable[str]) -> None:
        for pieces in self._shown:
            pieces.changed(changed)
        for part in _parts(patch):
            self._offset += 1
            self.audience.send(frames.of_patch(self.name, self._offset, part))

    def end(self, code: int, reason: str) -> None:
        """End every subscription."""
        self.audience.end(self.name, code, reason)


_NOTHING: Doing = {"queued": 0, "active": 0, "tokens_per_second": 0.0}


def _doing(figures: AgentFigures) -> Doing:
    """Return the figures as they are shown: rounded, without what is not known."""
    known: Doing = {
        "name": figures.name,
        "status": figures.status,
        "queued": figures.queued,
        "active": figures.active,
        "tokens_per_second": round(figures.tokens_per_second, 1),
        "first_token_ms": _rounded(figures.first_token_ms),
        "step_ms": _rounded(figures.step_ms),
        "checkpoint_ms": _rounded(figures.checkpoint_ms),
        "context_tokens": figures.context_tokens,
        "context_limit": figures.context_limit,
    }
    return {name: value for name, value in known.items() if value is not None}


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


def _resting(name: str) -> Doing:
    return {"name": name, "status": "idle", **_NOTHING}


def _asleep(host: Host, agent_id: str) -> str:
    return "waiting_for_approval" if host.is_asking(agent_id) else "idle"


def _parts(items: list[T]) -> Iterable[list[T]]:
    size = AGENTS_PER_PUBLICATION
    return [items[i : i + size] for i in range(0, len(items), size)]
