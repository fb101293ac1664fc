"""Whose a channel is, and who may follow it."""

from collections.abc import Generator
from contextlib import contextmanager

import anyio
from msgspec import Struct

from gateway.auth import READ, Caller
from gateway.feeds import channel_names
from gateway.feeds.channel_names import Address
from gateway.realtime.protocol import PERMISSION_DENIED, ProtocolError
from storage import agents, conversations
from storage.errors import NotFoundError
from storage.pool import Pool, connection

LOOK_SECONDS = 10.0

# One text for what does not exist and what is somebody else's.
_NOT_YOURS = "permission denied: there is no such channel for this caller"


class Place(Struct, frozen=True):
    """Whose a channel is. The fleet and users' channels are of no agent."""

    address: Address
    organization_id: str
    agent_id: str | None = None

    def refuses(self, caller: Caller) -> str | None:
        """Return why the caller may not follow the channel, in words for it; None where it may."""
        if READ not in caller.scopes:
            return f"permission denied: the token lacks {READ}"
        if self.address.kind == "user" and self.address.id != caller.user_id:
            return _NOT_YOURS
        if self.organization_id != caller.organization_id:
            return _NOT_YOURS
        if self.agent_id is not None and caller.agents is not None and self.agent_id not in caller.agents:
            return _NOT_YOURS
        return None

    def check(self, caller: Caller) -> "Place":
        """Return the place if the caller may follow the channel.

        Raises:
            ProtocolError: It may not (103).
        """
        refusal = self.refuses(caller)
        if refusal is not None:
            raise ProtocolError(PERMISSION_DENIED, refusal)
        return self


class Access:
    """Finds out whose a channel is that nobody follows yet."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._hearing: list[set[str]] = []

    def known(self, caller: Caller, channel: str) -> Place | None:
        """Return the place of a channel that needs no look at the database: the fleet's, or a user's.

        Raises:
            ProtocolError: The name is no channel's (102, 107).
        """
        address = channel_names.parse(channel)
        return Place(address, caller.organization_id) if address.kind in ("fleet", "user") else None

    async def find(self, caller: Caller, channel: str) -> Place:
        """Return the place of a channel of the caller's organisation.

        Raises:
            ProtocolError: The name is no channel's (102, 107), or there is none for this caller (103).
            UnavailableError, TimeoutError
        """
        place = self.known(caller, channel)
        if place is not None:
            return place
        address = channel_names.parse(channel)
        Place(address, caller.organization_id).check(caller)  # strangers cause no queries
        with self._listening() as gone, anyio.fail_after(LOOK_SECONDS):
            place = await self._look_up(caller, address)
        if place.agent_id in gone or address.id in gone:
            raise ProtocolError(PERMISSION_DENIED, _NOT_YOURS)
        return place

    async def _look_up(self, caller: Caller, address: Address) -> Place:
        organization_id = caller.organization_id
        try:
            async with connection(self._pool) as conn:
                if address.kind == "conv":
                    found = await conversations.get(conn, address.id, organization_id=organization_id)
                    return Place(address, organization_id, found.agent_id)
                await agents.check(conn, address.id, organization_id=organization_id)
                return Place(address, organization_id, address.id)
        except NotFoundError:
            raise ProtocolError(PERMISSION_DENIED, _NOT_YOURS) from None

    def gone(self, name: str) -> None:
        """An agent or a conversation was deleted, perhaps while the database was asked about it."""
        for heard in self._hearing:
            heard.add(name)

    @contextmanager
    def _listening(self) -> Generator[set[str]]:
        gone: set[str] = set()
        self._hearing.append(gone)
        try:
            yield gone
        finally:
            # By identity: sets that heard the same are equal.
            self._hearing = [heard for heard in self._hearing if heard is not gone]
