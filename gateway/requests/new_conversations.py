"""Opens conversations, whoever asks and however."""

from msgspec import UnsetType

from actors import clock
from actors.commands import CreateConversation
from actors.host import Host
from actors.llm.catalog import Catalog
from gateway.auth import Caller
from gateway.letta import conversations as letta_conversations
from gateway.letta.conversations import LettaConversation
from gateway.requests import models
from storage import conversations
from storage.pool import Conn, connection
from storage.records import JsonObject


async def create(
    host: Host,
    caller: Caller,
    agent_id: str,
    *,
    summary: str | None = None,
    description: str | None = None,
    model: str | None = None,
    model_settings: JsonObject | None = None,
) -> LettaConversation:
    """Open a conversation of an agent; it starts with the agent's system prompt and nothing else.

    Raises:
        NotFoundError: The caller's organisation has no such agent.
        UnknownModelError, InvalidRequestError: See `check_model`.
        As `AgentRef.edit`.
    """
    check_model(host.catalog, model, model_settings)
    async with connection(host.pool) as conn:
        # An agent of another organisation is not there.
        await conversations.get(conn, agent_id, organization_id=caller.organization_id)
    conversation_id = clock.new_id("conv")
    await host.ref(agent_id).edit(
        CreateConversation(
            conversation_id=conversation_id,
            summary=summary,
            description=description,
            model=model,
            model_settings=model_settings,
        )
    )
    async with connection(host.pool) as conn:
        return await hydrated(conn, caller, conversation_id)


async def hydrated(conn: Conn, caller: Caller, conversation_id: str) -> LettaConversation:
    """Return a conversation with the ids of the messages that its model sees.

    Raises:
        NotFoundError: The caller's organisation has no such conversation.
    """
    found = await conversations.get(conn, conversation_id, organization_id=caller.organization_id)
    return letta_conversations.show(found, await conversations.window_ids(conn, found))


def check_model(
    catalog: Catalog, model: str | UnsetType | None, model_settings: JsonObject | UnsetType | None
) -> None:
    """Check what a conversation wants to set instead of its agent.

    Raises:
        UnknownModelError: Nobody serves the model.
        InvalidRequestError: A setting is none.
    """
    if model:
        catalog.resolve(model)
    if model_settings:
        models.check_settings(model_settings)
