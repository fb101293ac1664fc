"""A fleet as a newcomer is shown it: so many agents at a time, as fast as its client takes them."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol

from actors.events import Position
from gateway.feeds import frames, json_patch
from gateway.feeds.catching_up import ForgottenError
from gateway.feeds.subscriptions import Subscription

AGENTS_PER_PUBLICATION = 500  # about 250 bytes each
MAX_CHANGED = 5000  # agents that change while a newcomer is shown the fleet; beyond it has to come again
NOWHERE = 0  # the offset of what is no place to come back to

Doing = dict[str, Any]


class Fleet(Protocol):
    """The fleet as it is at any moment."""

    @property
    def name(self) -> str:
        """The channel."""
        ...

    @property
    def agents(self) -> dict[str, Doing]:
        """What every agent does, by its id."""
        ...

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        ...


class FleetPieces:
    """What one newcomer still has to be shown: a snapshot with the first agents, then patches with others.

    Meanwhile it hears nothing live; agents that change are shown once more at the end. All pieces but the
    last are at no place (offset 0, which clients take without moving): whoever is cut off in between has
    seen no state whole, and gets one when it comes again.
    """

    def __init__(self, fleet: Fleet, member: Subscription) -> None:
        self._fleet = fleet
        self._member = member
        self._agents = list(fleet.agents)
        self._place = 0
        self._changed: dict[str, None] = {}
        member.behind = True

    @property
    def behind(self) -> bool:
        """Whether there is a further piece."""
        return self._member.behind

    def changed(self, agent_ids: Iterable[str]) -> None:
        """Show these agents again, or that they are gone."""
        if self.behind:
            self._changed |= dict.fromkeys(agent_ids)

    def piece(self) -> list[bytes]:
        """Return the next publication, if its subscriber wants it.

        Raises:
            ForgottenError: Too much changed while the client was slow.
        """
        if len(self._changed) > MAX_CHANGED:
            raise ForgottenError
        first = not self._place
        part = self._agents[self._place : self._place + AGENTS_PER_PUBLICATION]
        self._place += AGENTS_PER_PUBLICATION
        again = list(islice(self._changed, 0 if part else AGENTS_PER_PUBLICATION))
        for agent_id in again:
            del self._changed[agent_id]
        if self._place >= len(self._agents) and not self._changed:
            self._agents = []
            self._member.caught_up()
        name, agents = self._fleet.name, self._fleet.agents
        offset = NOWHERE if self.behind else self._fleet.position.offset
        if first:
            state = {agent_id: agents[agent_id] for agent_id in part if agent_id in agents}
            frame = frames.of_snapshot(name, offset, {"agents": state})
        else:
            patch = [one for agent_id in [*part, *again] for one in _as_it_is(agent_id, agents)]
            frame = frames.of_patch(name, offset, patch)
        return [frame.pub] if self._member.choice.takes(frame) else []


def _as_it_is(agent_id: str, agents: dict[str, Doing]) -> list[json_patch.Operation]:
    """Return the operations that show an agent, or remove it, whether or not it was shown before."""
    doing = agents.get(agent_id)
    if doing is not None:
        return [shown(agent_id, doing)]
    return [shown(agent_id, {}), {"op": "remove", "path": path_of(agent_id)}]


def shown(agent_id: str, doing: Doing) -> json_patch.Operation:
    """Return the operation that shows an agent, whether it was shown before or not."""
    return {"op": "add", "path": path_of(agent_id), "value": doing}


def path_of(agent_id: str) -> str:
    """Return where an agent stands in the state."""
    return f"/agents/{agent_id}"
