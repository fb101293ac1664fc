"""Delivers the messages of a request to an agent: once, however often the request is sent."""

import asyncio
from datetime import timedelta

from msgspec.structs import replace

from actors import clock
from actors.commands import Envelope, InputMessage, Receipt, SendMessages, WhenBusy
from actors.host import Host
from gateway import inputs
from gateway.app import Context
from gateway.auth import Caller
from gateway.inputs import SendRequest
from storage import inbox, runs
from storage.pool import connection

ACCEPT_SECONDS = 30.0  # above the database's own timeouts, which say more
RETRY_WINDOW = timedelta(minutes=10)  # how far back a repeated request is looked for at most
BACKOFF_SECONDS = 15.0  # an SDK waits at most 8 s between two tries and 5 s for a connection


async def deliver(
    ctx: Context,
    request: SendRequest,
    *,
    agent_id: str,
    conversation_id: str,
    default_busy: WhenBusy,
    run_type: str,
) -> Receipt:
    """Make the request's messages durable in the conversation and return the run that handles them.

    Repeats are recognised by their otids, or, where an SDK says that it retries, by their content.

    Raises:
        InvalidRequestError, BadArgumentError: The request is not one that can be delivered.
        UnknownModelError: The model to use instead is not known.
        As `AgentRef.tell`.
    """
    command = inputs.command_of(
        request,
        inputs.messages_of(request),
        conversation_id=conversation_id,
        busy=inputs.when_busy(ctx.headers.get(b"x-wakeful-when-busy"), default_busy),
        run_type=run_type,
    )
    if command.model is not None:
        ctx.host.catalog.resolve(command.model)
    request_hash = inputs.hash_of(agent_id, command)
    async with asyncio.timeout(ACCEPT_SECONDS):
        known = await _known_key(ctx, agent_id, command, request_hash)
        return await tell(
            ctx.host,
            ctx.caller,
            # What is known already must be answered, not refused: its own run is what keeps it busy.
            replace(command, when_busy="queue") if known else command,
            agent_id=agent_id,
            key=known or inputs.key_of(command) or clock.new_id("request"),
            request_hash=request_hash,
        )


async def tell(
    host: Host,
    caller: Caller,
    command: SendMessages,
    *,
    agent_id: str,
    key: str,
    request_hash: bytes,
    fresh: bool = False,
) -> Receipt:
    """Make a command durable under a key; every message of it that has no otid gets one.

    `fresh` says that none of its messages was heard before, by their otids; see `Envelope`.

    Raises:
        As `AgentRef.tell`.
    """
    envelope = Envelope(
        command=_with_otids(command),
        key=key,
        request_hash=request_hash,
        caller=caller.name,
        organization_id=caller.organization_id,
        fresh=fresh and all(message.otid is not None for message in command.messages),
    )
    return await host.ref(agent_id).tell(envelope)


async def _known_key(ctx: Context, agent_id: str, command: SendMessages, request_hash: bytes) -> str | None:
    """Return the key under which an SDK's earlier try of this very request was accepted, if it was."""
    tries = _tries(ctx)
    if tries == 0:
        return None
    key = inputs.key_of(command)
    async with connection(ctx.host.pool) as conn:
        if key is not None:
            found = await runs.find_by_key(conn, agent_id=agent_id, key=key)
            return None if found is None else key
        recent = await inbox.recent(
            conn,
            agent_id=agent_id,
            caller=ctx.caller.name,
            request_hash=request_hash,
            within=_window(ctx, tries),
        )
    return None if recent is None else recent[2]


def _tries(ctx: Context) -> int:
    """Return how many tries of this request went before, as the SDK counts them."""
    header = ctx.headers.get(b"x-stainless-retry-count", b"0")
    return int(header) if header.isdigit() and len(header) < 3 else 0


def _window(ctx: Context, tries: int) -> timedelta:
    """Return how long ago the first try can have been, so that an older equal request is not mistaken for it.

    The SDK says how long it waits for an answer before it tries again.
    """
    header = ctx.headers.get(b"x-stainless-read-timeout", b"")
    try:
        patience = timedelta(seconds=float(header) + BACKOFF_SECONDS)
    except (ValueError, OverflowError):
        return RETRY_WINDOW
    return max(timedelta(seconds=BACKOFF_SECONDS), min(RETRY_WINDOW, tries * patience))


def _with_otids(command: SendMessages) -> SendMessages:
    """Give every message without an otid a fresh one, as clients expect of their input."""
    if command.approvals and command.approvals_otid is None:
        command = replace(command, approvals_otid=clock.new_id("otid").removeprefix("otid-"))
    if all(message.otid is not None for message in command.messages):
        return command
    return replace(command, messages=tuple(_with_otid(message) for message in command.messages))


def _with_otid(message: InputMessage) -> InputMessage:
    if message.otid is not None:
        return message
    return replace(message, otid=clock.new_id("otid").removeprefix("otid-"))
