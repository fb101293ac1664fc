"""Small values that tests of the actor's parts share."""

from datetime import UTC, datetime

from actors.commands import InputMessage, Lane, SendMessages, WhenBusy
from actors.mailbox import Waiting
from actors.tools import registry
from actors.tools.registry import BUILTIN
from storage.records import (
    DEFAULT_ORGANIZATION,
    Agent,
    AgentSettings,
    Conversation,
    Message,
    Part,
    Role,
    TextPart,
    Tool,
)

BORN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AGENT_ID = "agent-1"


def waiting(
    seq: int, *, lane: Lane = "user", when_busy: WhenBusy = "queue", text: str = "hi", applied: bool = False
) -> Waiting:
    """Return a command that waits."""
    command = SendMessages(
        conversation_id=AGENT_ID,
        messages=(InputMessage(role="user", content=(TextPart(text),)),),
        lane=lane,
        when_busy=when_busy,
    )
    return Waiting(seq=seq, run_id=f"run-{seq}", command=command, since=0.0, applied=applied)


def agent(**settings: object) -> Agent:
    """Return an agent that is stored nowhere."""
    return Agent(
        id=AGENT_ID,
        organization_id=DEFAULT_ORGANIZATION,
        name="test",
        settings=AgentSettings(**{"model": "openai/echo", "system": "You are a test.", **settings}),  # type: ignore[arg-type]
        created_at=BORN,
        updated_at=BORN,
    )


def conversation() -> Conversation:
    """Return the agent's default conversation, empty."""
    return Conversation(
        id=AGENT_ID,
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=AGENT_ID,
        created_at=BORN,
        updated_at=BORN,
    )


def message(position: int, role: Role, *parts: Part, excluded: bool = False, tokens: int = 10) -> Message:
    """Return a message of the default conversation."""
    return Message(
        id=f"message-{position}",
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=AGENT_ID,
        conversation_id=AGENT_ID,
        position=position,
        role=role,
        content=parts,
        created_at=BORN,
        tokens=tokens,
        excluded=excluded,
    )


def built_in_tools() -> dict[str, Tool]:
    """Return the built-in tools as rows, by name."""
    return {
        name: registry.row(
            spec, tool_id=f"tool-{name}", organization_id=DEFAULT_ORGANIZATION, created_at=BORN
        )
        for name, spec in BUILTIN.items()
    }
