"""Conversations as Letta's clients see them."""

from datetime import UTC, datetime

from msgspec.structs import replace

from gateway.letta import conversations as letta_conversations
from storage.records import Conversation

AT = datetime(2026, 5, 1, tzinfo=UTC)
CONVERSATION = Conversation(
    id="conv-1", agent_id="agent-1", organization_id="org", created_at=AT, updated_at=AT, summary="s"
)


def test_what_clients_need_is_shown_and_the_organisation_is_not() -> None:
    shown = letta_conversations.show(CONVERSATION, ["message-1"])
    assert (shown.id, shown.agent_id, shown.summary) == ("conv-1", "agent-1", "s")
    assert (shown.in_context_message_ids, shown.archived) == (["message-1"], False)
    assert not hasattr(shown, "organization_id")


def test_an_archived_conversation_says_since_when() -> None:
    shown = letta_conversations.show(replace(CONVERSATION, archived_at=AT), [])
    assert (shown.archived, shown.archived_at, shown.in_context_message_ids) == (True, AT, [])
