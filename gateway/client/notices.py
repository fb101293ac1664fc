"""What needs a person: requests for approval and for results of tools, and their answers, as typed values."""

from datetime import datetime
from typing import Any, Self

import msgspec
from msgspec import Struct

from gateway.client.events import Custom
from gateway.client.subscription import Gap, Publication, Subscription

OWN = "user:"  # begins the name of a user's own channel


class Interrupt(Struct, frozen=True, rename="camel"):
    """One call that waits. `reason`: `tool_call` (approve it) or `input_required` (run it, send its result).

    `metadata` has the tool's `name` and its `arguments`, JSON as text.
    """

    id: str
    reason: str
    message: str = ""
    tool_call_id: str = ""
    expires_at: datetime | None = None
    metadata: dict[str, Any] = {}


class Decision(Struct, frozen=True, rename="camel"):
    """The answer to one call: `approved` or not, or the `status` of the result that a client sent."""

    tool_call_id: str
    approved: bool | None = None
    status: str | None = None
    reason: str | None = None
    arguments: str | None = None


class Asked(Struct, frozen=True):
    """A conversation waits. `Client.resume` with an answer to every one of `interrupts` lets it go on."""

    agent: str
    conversation: str
    run: str
    interrupts: tuple[Interrupt, ...]


class Settled(Struct, frozen=True):
    """A conversation waits no longer: it was answered, or the time for it is over."""

    agent: str
    conversation: str
    run: str
    decisions: tuple[Decision, ...]


Notice = Asked | Settled | Publication | Gap


class _Approval(Struct, frozen=True, rename="camel"):
    change: str
    run_id: str
    interrupts: tuple[Interrupt, ...] = ()
    decisions: tuple[Decision, ...] = ()


_decode = msgspec.json.Decoder(_Approval).decode


class Notices:
    """The notices of a user, each once, however often the connection breaks. Iterate over them."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        """Return the next notice; what is of no known kind comes as it is. Cancelling loses nothing.

        Raises:
            As `Subscription`.
        """
        item = await anext(self._subscription)
        return item if isinstance(item, Gap) else notice(item)


def notice(item: Publication) -> Asked | Settled | Publication:
    """Return what a publication of a user's channel says."""
    if not isinstance(item.event, Custom) or item.event.name != "wakeful.approval":
        return item
    try:
        approval = _decode(item.event.value)
    except msgspec.ValidationError:
        return item
    agent, conversation = item.tags.get("agent", ""), item.tags.get("conv", "")
    if approval.change == "requested":
        return Asked(agent, conversation, approval.run_id, approval.interrupts)
    return Settled(agent, conversation, approval.run_id, approval.decisions)
