"""Requests that nobody answered in time get the default answer."""

from typing import Literal

from actors import approvals
from actors.commands import Envelope, SendMessages
from storage import pending
from storage.pool import Pool, connection

AT_ONCE = 100


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
