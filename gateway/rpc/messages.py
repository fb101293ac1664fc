"""Messages as methods of the websocket take them, and hand them on: once, however often they come."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct

from actors import clock
from actors.commands import InputMessage, InputRole, SendMessages
from gateway import deliveries, inputs
from gateway.auth import Caller
from gateway.errors import InvalidRequestError
from gateway.inputs import Content, MessageIn
from gateway.rpc.method import Accepted, Call, accepted

ClientMessageId = Annotated[str, Meta(min_length=1, max_length=256)]


class MessageData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One message: text, or parts as REST takes them."""

    role: InputRole
    content: str | Content
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None


def read(messages: Sequence[MessageData]) -> tuple[InputMessage, ...]:
    """Return the messages of a call, of which there is at least one.

    Raises:
        InvalidRequestError: There are none or too many, or one has content that its role cannot have.
    """
    if not messages:
        raise InvalidRequestError("messages must not be empty", param="/messages")
    given = [
        MessageIn(role=m.role, content=m.content, name=m.name, otid=m.otid, sender_id=m.sender_id)
        for m in messages
    ]
    return inputs.sequence_of(given, "/messages")


async def tell(
    call: Call, command: SendMessages, *, agent_id: str, client_message_id: str | None
) -> Accepted:
    """Make messages durable, once for each id that their client gave them.

    Raises:
        As `AgentRef.tell`.
    """
    key = inputs.key_of(command) if client_message_id is None else key_of(call.caller, client_message_id)
    receipt = await deliveries.tell(
        call.host,
        call.caller,
        command,
        agent_id=agent_id,
        key=key or clock.new_id("request"),
        request_hash=inputs.hash_of(agent_id, command),
    )
    return await accepted(call, receipt)


def key_of(caller: Caller, client_message_id: str) -> str:
    """Return the key under which a caller's message is accepted once. Others' ids are none of its own."""
    digest = sha256(f"{caller.organization_id}\n{caller.name}\n{client_message_id}".encode()).hexdigest()
    return f"client-{digest}"
