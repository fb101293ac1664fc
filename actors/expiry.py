"""Requests that nobody answered in time get the default answer."""

import logging
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio

from actors import approvals
from actors.commands import Envelope, Receipt, SendMessages
from actors.errors import ActorError, DrainingError, InvalidAnswerError
from storage import pending
from storage.errors import StorageError, UnavailableError
from storage.pool import Pool, connection

log = logging.getLogger("wakeful.host")

LOOK = 5.0  # seconds between looks for requests that nobody answered in time
AT_ONCE = 100


async def keep(once: Callable[[], Awaitable[None]]) -> None:
    """Answer requests that expired, with `once`, until cancelled."""
    while True:
        await anyio.sleep(LOOK)
        try:
            await once()
        except (StorageError, ActorError) as error:
            log.warning("requests not expired", extra={"reason": str(error)})


async def answer(
    pool: Pool, choice: Literal["deny", "approve"], *, accept: Callable[[str, Envelope], Awaitable[Receipt]]
) -> None:
    """Give every request that expired the default answer, as a command like any other.

    A request that cannot be answered by a fault of its own is logged, and the others are.

    Raises:
        StorageError: The database failed.
        DrainingError: The host accepts nothing now.
    """
    for agent_id, envelope in await answers(pool, choice):
        try:
            receipt = await accept(agent_id, envelope)
        except InvalidAnswerError:
            continue  # somebody answered meanwhile
        except (DrainingError, UnavailableError):
            raise
        except (ActorError, StorageError) as error:  # its own fault: the others wait no longer for it
            log.warning("request not expired", extra={"agent_id": agent_id, "reason": str(error)})
            continue
        if not receipt.replayed:
            log.info("request expired", extra={"agent_id": agent_id, "run_id": receipt.run_id})


async def answers(pool: Pool, choice: Literal["deny", "approve"]) -> list[tuple[str, Envelope]]:
    """Return the commands, by agent, that answer what expired; the oldest first, and not all at once.

    Each has the request's key, so that it is accepted once whoever looks, and however often.

    Raises:
        StorageError: The database failed.
    """
    async with connection(pool) as conn:
        expired = await pending.expired(conn, limit=AT_ONCE)
    return [
        (
            request.agent_id,
            Envelope(
                command=SendMessages(
                    conversation_id=request.conversation_id,
                    messages=(),
                    background=True,
                    approvals=approvals.defaults(request, choice),
                    request_config={"run_type": "approval_expired"},
                ),
                key=f"expired-{request.message_id}",
                request_hash=request.message_id.encode(),
                caller="wakeful",
                organization_id=request.organization_id,
            ),
        )
        for request in expired
    ]
