"""Shows conversations as Letta's clients expect them. Pure."""

from datetime import datetime

from msgspec import Struct

from storage.records import Conversation, JsonObject


class LettaConversation(Struct, frozen=True, kw_only=True):
    """A conversation. `in_context_message_ids` are what its model is shown, the system prompt first."""

    id: str
    agent_id: str
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    created_at: datetime
    updated_at: datetime
    summary: str | None = None
    description: str | None = None
    in_context_message_ids: list[str] = []
    isolated_block_ids: tuple[str, ...] = ()
    model: str | None = None
    model_settings: JsonObject | None = None
    last_message_at: datetime | None = None
    archived: bool = False
    archived_at: datetime | None = None


def show(conversation: Conversation, window: list[str]) -> LettaConversation:
    """Return a conversation in Letta's shape."""
    return LettaConversation(
        id=conversation.id,
        agent_id=conversation.agent_id,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
        summary=conversation.summary,
        description=conversation.description,
        in_context_message_ids=window,
        model=conversation.model,
        model_settings=conversation.model_settings,
        last_message_at=conversation.last_message_at,
        archived=conversation.archived_at is not None,
        archived_at=conversation.archived_at,
    )
