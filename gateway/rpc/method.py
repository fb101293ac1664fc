"""What every method of the websocket is made of: its data, its answer, who may call it, for how long."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.commands import Receipt
from actors.events import Position
from actors.host import Host
from gateway.auth import Caller
from gateway.config import Settings
from gateway.decode import UUID4
from gateway.errors import InvalidRequestError
from storage import conversations, runs
from storage.errors import NotFoundError
from storage.pool import connection
from storage.records import Conversation, RunStatus

SECONDS = 30.0  # what a method may take; above the database's own timeouts, which say more
DEFAULT = "default"

_AGENT = re.compile(f"agent-{UUID4}")
_CONVERSATION = re.compile(f"(?:agent|conv)-{UUID4}")
_RUN = re.compile(f"run-{UUID4}")


class Positions(Protocol):
    """Knows where channels stand."""

    def position(self, channel: str) -> Position | None:
        """Return where a channel's log stands; None where it has none."""
        ...


class Call(Struct, frozen=True):
    """One call: who calls, and what the method may use."""

    host: Host
    settings: Settings
    positions: Positions
    caller: Caller


class Method(Struct, frozen=True, kw_only=True):
    """One method as data. `errors` are codes with their reasons, beside those that every method has."""

    name: str
    data: type[Struct]
    answer: Any
    scope: str
    run: Callable[[Call, Any], Awaitable[object]]
    summary: str
    errors: tuple[str, ...] = ()
    seconds: float = SECONDS


class AppliedThrough(Struct, frozen=True):
    """Where the conversation's channel stood when the command was accepted: what follows may be its doing."""

    channel: str
    epoch: str
    offset: int


class Accepted(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A command is durable; its results come as events.

    `disposition`: the run is `started`, `queued` at `position` (1 is next), or `steered`: its messages join
    the run that is under way. A repeat says `replayed`, the disposition of now, and the run's `status`.
    """

    accepted: Literal[True]
    disposition: Literal["started", "queued", "steered"]
    run: str
    conversation: str
    position: int | UnsetType = UNSET
    replayed: bool = False
    status: RunStatus | UnsetType = UNSET
    applied_through: AppliedThrough | UnsetType = UNSET


async def accepted(call: Call, receipt: Receipt) -> Accepted:
    """Return the answer to an accepted command; of a repeat, how its run is doing now."""
    disposition, position = receipt.disposition, receipt.queue_position
    status: RunStatus | UnsetType = UNSET
    if receipt.replayed:
        async with connection(call.host.pool) as conn:
            run = await runs.get(conn, receipt.run_id, organization_id=call.caller.organization_id)
        disposition, position = call.host.disposition(run.id) or ("started", 0)
        status = run.status
    return Accepted(
        accepted=True,
        disposition=disposition,
        run=receipt.run_id,
        conversation=receipt.conversation_id,
        position=position if disposition == "queued" else UNSET,
        replayed=receipt.replayed,
        status=status,
        applied_through=applied_through(call, receipt.conversation_id),
    )


def applied_through(call: Call, conversation_id: str) -> AppliedThrough | UnsetType:
    """Return where a conversation's channel stands; nothing where nobody ever said or followed anything."""
    channel = f"conv:{conversation_id}"
    at = call.positions.position(channel)
    return UNSET if at is None else AppliedThrough(channel, at.epoch, at.offset)


# --- what calls name ----------------------------------------------------------------------------


def agent_id(call: Call, given: str, *, field: str = "agent") -> str:
    """Return an agent's id that the caller may name. Whether there is such an agent is not asked.

    Raises:
        InvalidRequestError: It is no agent's id.
        NotFoundError: The caller may not address it.
    """
    if _AGENT.fullmatch(given) is None:
        raise InvalidRequestError("expected an agent's id, agent-<uuid4>", param=f"/{field}")
    call.caller.require_agent(given)
    return given


def run_id(given: str) -> str:
    """Return a run's id.

    Raises:
        InvalidRequestError: It is none.
    """
    if _RUN.fullmatch(given) is None:
        raise InvalidRequestError("expected a run's id, run-<uuid4>", param="/run")
    return given


def names(call: Call, agent: str | None, conversation: str | None) -> tuple[str | None, str]:
    """Return (agent, conversation) as a call names them; the agent is None where only its row knows it.

    Without a conversation, or with `default`, it is the agent's own. Nothing is read.

    Raises:
        InvalidRequestError: Neither is named, or one is no id.
        NotFoundError: The caller may not address the agent, or the conversation is another agent's own.
    """
    named = None if agent is None else agent_id(call, agent)
    if conversation is None or conversation == DEFAULT:
        if named is None:
            raise InvalidRequestError("name the agent, or a conversation", param="/agent")
        return named, named
    if _CONVERSATION.fullmatch(conversation) is None:
        raise InvalidRequestError(
            "expected 'default' or a conversation's id, conv-<uuid4>", param="/conversation"
        )
    if not conversation.startswith("agent-"):
        return named, conversation
    if named not in (None, conversation):
        raise NotFoundError("conversation", conversation)
    return agent_id(call, conversation, field="conversation"), conversation


async def conversation(call: Call, agent: str | None, named: str | None) -> Conversation:
    """Return the conversation that a call names.

    Raises:
        InvalidRequestError, NotFoundError: As `names`, or there is no such conversation.
    """
    wanted_agent, wanted = names(call, agent, named)
    async with connection(call.host.pool) as conn:
        found = await conversations.get(conn, wanted, organization_id=call.caller.organization_id)
    if wanted_agent not in (None, found.agent_id):
        raise NotFoundError("conversation", wanted)
    if call.caller.agents is not None and found.agent_id not in call.caller.agents:
        raise NotFoundError("conversation", wanted)  # its agent is not named to whom it does not exist
    return found


encode = msgspec.json.Encoder().encode
