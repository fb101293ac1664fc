"""What the methods of the websocket answer with, as far as the client types it. Pure."""

from typing import Any

from msgspec import Struct


class Place(Struct, frozen=True):
    """A place in a channel."""

    channel: str
    epoch: str
    offset: int


class Sent(Struct, frozen=True, kw_only=True, rename="camel"):
    """A command is durable; its results come as events.

    `disposition` says how its run stands: `started`, `queued` at `position` (1 is next), or `steered` (it
    joins the one under way). A repeat says `replayed`, and the run's `status`.
    """

    run: str
    conversation: str = ""
    disposition: str = "started"
    position: int = 0
    replayed: bool = False
    status: str | None = None
    applied_through: Place | None = None


class Block(Struct, frozen=True, kw_only=True, rename="camel"):
    """A memory block as it is stored now."""

    block_id: str
    label: str
    value: str
    limit: int
    version: int
    applied_through: Place | None = None


class Answered(Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer to an interrupt: `cancelled`, or `resolved` with a payload like `{"approved": true}`."""

    interrupt_id: str
    status: str = "resolved"
    payload: dict[str, Any] | None = None
