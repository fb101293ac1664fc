"""The channel of one agent's state: a snapshot for whoever comes, then only what changes."""

import asyncio
import logging
from collections.abc import Callable

import anyio

from actors import clock
from actors.channels import Channel
from actors.events import Event, Position
from actors.frozen import DELTAS
from actors.host import Host
from gateway.feeds import agent_state, frames, json_patch, state_pieces, state_reading
from gateway.feeds.agent_state import Document
from gateway.feeds.choices import Choice
from gateway.feeds.json_patch import Operation
from gateway.feeds.state_pieces import StatePieces
from gateway.feeds.state_reading import HotReader, Signature
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, joined_state, seen
from gateway.realtime.protocol import PERMISSION_REVOKED, Subscribe
from storage.errors import NotFoundError, StorageError

log = logging.getLogger("wakeful.gateway")

READ_SECONDS = 10.0
AGAIN_SECONDS = 1.0  # between two looks at what is stored; a live agent is looked at as often as it changes


class StateFeed:
    """Shows the state of one agent. Its log is the last state alone: who missed a change gets it whole.

    A patch is made of the state that was shown last, so it always applies to what a subscriber has. What is
    too large for one publication is shown in pieces.
    """

    def __init__(
        self, host: Host, agent_id: str, *, organization_id: str, left: Callable[["StateFeed"], None]
    ) -> None:
        self.name = f"agent:{agent_id}:state"
        self.agent_id = agent_id
        self.waiting = 0  # subscribers that are about to join
        self._host = host
        self._organization_id = organization_id
        self._left = left
        self._epoch = clock.new_epoch()
        self._offset = 0
        self._state: Document | None = None
        self._seen: Signature | None = None
        self._hot = HotReader(host)
        self.tags = frames.tags_of(agent=agent_id)
        self._trusted = Audience(self._one_left)
        self._others = Audience(self._one_left)
        self._dirty = False
        self._scheduled = False
        self._reading = False
        self._read_at = 0.0
        self._changed = anyio.Event()
        self._stop = host.logs.watch(agent_id, self._hear)

    def __len__(self) -> int:
        return len(self._trusted) + len(self._others) + self.waiting

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        return Position(self._epoch, self._offset)

    @property
    def document(self) -> Document:
        """The state that was shown last. Only when `ready`."""
        assert self._state is not None
        return self._state

    # --- subscribers --------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Return when there is a state to show.

        Raises:
            NotFoundError: The agent is gone.
            UnavailableError, TimeoutError
        """
        if self._state is None:
            with anyio.fail_after(READ_SECONDS):
                await self._read()

    def join(self, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe, and return the state unless it was seen already: one step. Call it when `ready`."""
        (self._trusted if member.choice.thoughts else self._others).join(member)
        at = self.position
        if seen(request, at):
            return joined_state(member, request, at=at, publications=None)
        pieces = StatePieces(self, member)
        publications = pieces.piece()
        if not pieces.behind:
            return joined_state(member, request, at=at, publications=publications)
        begun = Position(at.epoch, at.offset - 1)
        return joined_state(member, request, at=begun, publications=publications, rest=pieces)

    def snapshot(self, choice: Choice) -> list[bytes]:
        """Return the state as a publication, as far as `choice` sees and wants it. Only when `ready`.

        Of a large memory it has the first blocks, and says so.
        """
        state = self.document if choice.thoughts else agent_state.without_memory(self.document)
        shown, others = state_pieces.pieces(state)
        told = None
        if others:
            blocks = len(agent_state.block_ids(state))
            told = {
                "truncated": True,
                "blocks": blocks,
                "see": f"/v1/agents/{self.agent_id}/core-memory/blocks",
            }
        frame = frames.of_snapshot(self.name, self._offset, shown, tags=self.tags, told=told)
        return [frame.pub] if choice.takes(frame) else []

    def _one_left(self) -> None:
        if not len(self):
            self._left(self)

    def stop(self) -> None:
        """Hear no more."""
        self._stop()

    def end(self, code: int, reason: str) -> None:
        """End every subscription."""
        for audience in (self._trusted, self._others):
            audience.end(self.name, code, reason)

    # --- changes ------------------------------------------------------------------------------------

    def _hear(self, _channel: Channel | None, _offset: int, event: Event) -> None:
        if not isinstance(event, DELTAS):
            self.touch()

    def block_changed(self, block_id: str) -> None:
        """A block was written or deleted; it may be one of this agent's."""
        if self._state is not None and block_id in agent_state.block_ids(self._state):
            self.touch()

    def look(self) -> None:
        """Notice changes that no event tells of, as of settings, by what is cheap to compare."""
        actor = self._host.alive(self.agent_id)
        seen = None if actor is None else state_reading.signature(actor)
        if seen != self._seen:
            self._seen = seen
            self.touch()
        elif self._dirty:
            self._refresh()

    def touch(self) -> None:
        """Look at the state soon: once for all that happens in this pass of the loop."""
        self._dirty = True
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._refresh)

    def _refresh(self) -> None:
        """Show what changed: at once from hot memory, else when it is read. `look` tries again."""
        self._scheduled = False
        if self._state is None or self._reading or not self._dirty or not len(self):
            return
        actor = self._host.alive(self.agent_id)
        state = None if actor is None else self._hot.read(actor)
        if state is not None:
            self._dirty = False
            self._show(state)
            return
        if actor is not None:
            self._show(self._hot.read_memory(actor, self._state))
        if clock.monotonic() - self._read_at >= AGAIN_SECONDS:
            self._host.spawn(self._read_again)

    async def _read_again(self) -> None:
        try:
            with anyio.fail_after(READ_SECONDS):
                await self._read()
        except NotFoundError:
            self.end(PERMISSION_REVOKED, "the agent was deleted")
        except (StorageError, TimeoutError) as error:
            log.warning("state not read", extra={"agent_id": self.agent_id, "reason": str(error)})
            self._dirty = True  # looked at again in its time

    async def _read(self) -> None:
        """Read the state, from hot memory where it is there when it is needed, and show it."""
        if self._reading:  # somebody reads it already; what he finds is what this one wants
            await self._changed.wait()
            if self._state is None:
                await self._read()
            return
        self._reading, self._dirty = True, False
        self._read_at = clock.monotonic()
        try:
            actor = self._host.alive(self.agent_id)
            state = None if actor is None else self._hot.read(actor)
            if state is None:
                state = await state_reading.read_stored(
                    self._host, self.agent_id, organization_id=self._organization_id
                )
                alive = self._host.alive(self.agent_id)  # it may have come to life, and changed, meanwhile
                state = (None if alive is None else self._hot.read(alive)) or state
            self._show(state)
        finally:
            self._reading = False
            self._changed.set()
            self._changed = anyio.Event()
            if self._dirty:  # by something that happened while it was read
                self.touch()

    def _show(self, state: Document) -> None:
        before, self._state = self._state, state
        if before is None:
            self._offset = 1
            return
        patch = json_patch.difference(before, state)
        if not patch:
            return
        for part in [patch] if len(patch) == 1 else state_pieces.parts(patch):
            self._tell(part)

    def _tell(self, patch: list[Operation]) -> None:
        self._offset += 1
        if len(self._trusted):
            self._trusted.send(frames.of_patch(self.name, self._offset, patch, tags=self.tags))
        open_patch = agent_state.patch_without_memory(patch)
        if len(self._others) and open_patch:
            self._others.send(frames.of_patch(self.name, self._offset, open_patch, tags=self.tags))
