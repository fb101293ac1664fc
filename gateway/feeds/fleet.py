"""The channel of the fleet: how every agent is doing that the subscriber may see, twice a second at most."""

from collections.abc import Callable, Iterable
from typing import Any

import anyio

from actors import clock, status
from actors.channels import Channel
from actors.events import Event, Position
from actors.host import Host
from actors.status import AgentFigures
from gateway.auth import Caller
from gateway.feeds import frames, json_patch
from gateway.feeds.choices import Choice
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, joined_state
from gateway.realtime.protocol import Subscribe
from storage import agents
from storage.pool import connection

MAX_AGENTS = 1000  # that are shown though they sleep; those that live are all shown
AGENTS_PER_PUBLICATION = 500  # about 150 bytes each
READ_SECONDS = 10.0

Doing = dict[str, Any]
Key = tuple[str, frozenset[str] | None]  # the organisation, and which of its agents; None: all


def key_of(caller: Caller) -> Key:
    """Return which fleet a caller sees; callers who see the same one share it."""
    return caller.organization_id, caller.agents


class Activity:
    """Which agents did something since the last look: nothing else has to be looked at."""

    def __init__(self, host: Host) -> None:
        self._touched: set[str] = set()
        self._restless: set[str] = set()  # those of which figures change by the passing of time alone
        self._host = host
        self._stop = host.logs.watch_all(self._hear)

    def _hear(self, channel: Channel | None, _offset: int, _event: Event) -> None:
        if channel is not None:
            self._touched.add(channel.agent_id)

    def look(self) -> dict[str, AgentFigures | None]:
        """Return the figures of agents that may have changed; None of those that do not live any more."""
        looked, self._touched = self._touched | self._restless, set()
        found: dict[str, AgentFigures | None] = {}
        for agent_id in looked:
            actor = self._host.alive(agent_id)
            found[agent_id] = None if actor is None else status.figures(actor)
        self._restless = {
            agent_id for agent_id, doing in found.items() if doing is not None and doing.status != "idle"
        }
        return found

    def stop(self) -> None:
        """Hear no more."""
        self._stop()


class FleetFeed:
    """Shows one fleet. Its log is the last state alone: who missed a change gets it whole."""

    def __init__(self, host: Host, key: Key, *, left: Callable[["FleetFeed"], None]) -> None:
        self.name = "fleet"
        self.key = key
        self.waiting = 0  # subscribers that are about to join
        self.audience = Audience(lambda: left(self))
        self._host = host
        self._epoch = clock.new_id("e")[2:10]
        self._offset = 0
        self._agents: dict[str, Doing] | None = None
        self._gone: set[str] = set()  # deleted while the database was asked

    def __len__(self) -> int:
        return len(self.audience) + self.waiting

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        return Position(self._epoch, self._offset)

    async def ready(self) -> None:
        """Return when it is known which agents there are.

        Raises:
            UnavailableError, TimeoutError
        """
        if self._agents is not None:
            return
        organization_id, among = self.key
        wanted = None if among is None else sorted(among)
        with anyio.fail_after(READ_SECONDS):
            async with connection(self._host.pool) as conn:
                names = await agents.names(
                    conn, organization_id=organization_id, among=wanted, limit=MAX_AGENTS
                )
        if self._agents is None:
            resting = {agent_id: _resting(name) for agent_id, name in names if agent_id not in self._gone}
            alive = (a for a in self._host.fleet(organization_id) if self._sees(a.agent_id))
            self._agents = resting | {a.agent_id: _doing(a) for a in alive}
            self._offset = 1

    def join(self, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe, and return the fleet unless it was seen already: one step. Call it when `ready`."""
        self.audience.join(member)
        at = Position(self._epoch, self._offset)
        return joined_state(member, request, at=at, snapshot=self.snapshot)

    def snapshot(self, choice: Choice) -> list[bytes]:
        """Return the fleet as publications: a snapshot, and patches with what is too much for one."""
        assert self._agents is not None
        first, *rest = _parts(list(self._agents.items())) or [[]]
        shown = [frames.of_snapshot(self.name, self._offset, {"agents": dict(first)})]
        for part in rest:
            patch = [_operation(agent_id, doing) for agent_id, doing in part]
            shown.append(frames.of_patch(self.name, self._offset, patch))
        return [frame.pub for frame in shown if choice.takes(frame)]

    def _sees(self, agent_id: str) -> bool:
        organization_id, among = self.key
        if among is not None and agent_id not in among:
            return False
        actor = self._host.alive(agent_id)
        return actor is not None and actor.agent.organization_id == organization_id and not actor.agent.hidden

    def look(self, looked: dict[str, AgentFigures | None]) -> None:
        """Show what changed of these agents."""
        if self._agents is None:
            return
        changed: dict[str, Doing] = {}
        for agent_id, figures in looked.items():
            before = self._agents.get(agent_id)
            if figures is not None and self._sees(agent_id):
                doing = _doing(figures)
            elif figures is None and before is not None:  # it sleeps
                doing = {**before, "status": _asleep(self._host, agent_id), **_NOTHING}
            else:
                continue
            if doing != before:
                changed[agent_id] = doing
        self._agents |= changed
        self._publish([_operation(agent_id, doing) for agent_id, doing in changed.items()])

    def gone(self, agent_id: str) -> None:
        """An agent was deleted."""
        if self._agents is None:
            self._gone.add(agent_id)
        elif self._agents.pop(agent_id, None) is not None:
            self._publish([{"op": "remove", "path": f"/agents/{agent_id}"}])

    def _publish(self, patch: list[json_patch.Operation]) -> None:
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


def _operation(agent_id: str, doing: Doing) -> json_patch.Operation:
    """Return the operation that shows an agent, whether it was shown before or not."""
    return {"op": "add", "path": f"/agents/{agent_id}", "value": doing}


def _parts(items: list[Any]) -> Iterable[Any]:
    size = AGENTS_PER_PUBLICATION
    return [items[i : i + size] for i in range(0, len(items), size)]
