"""Stored messages as entries of a window: encoded for the provider once, counted once."""

from collections.abc import Callable

from msgspec.structs import replace

from actors import clock
from actors.commands import SendMessages
from actors.llm import openai_chat
from actors.window import Entry
from storage.records import (
    Agent,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

IMAGE_TOKENS = 800  # about what providers charge for one image of ordinary size
MESSAGE_TOKENS = 4  # what the chat format adds to each message

Count = Callable[[str], int]


def entries(message: Message) -> list[Entry]:
    """Return the message as the provider sees it: one entry, or one for each tool result of a row."""
    if message.excluded:
        return []
    if message.role != "tool":
        calls = sum(isinstance(part, ToolCallPart) for part in message.content)
        wire = openai_chat.encode_message(message)
        return [Entry(message.position, message.role, message.tokens, wire, calls)] if wire else []
    share = -(-message.tokens // max(1, len(message.content)))
    return [
        Entry(message.position, "tool", share, openai_chat.encode_message(replace(message, content=(part,))))
        for part in message.content
    ]


def inputs_of(
    agent: Agent, command: SendMessages, position: int, *, run_id: str, count: Count
) -> list[Message]:
    """Return a command's messages as they will be stored, from `position` on."""
    now = clock.now()
    return [
        Message(
            id=clock.new_id("message"),
            organization_id=agent.organization_id,
            agent_id=agent.id,
            conversation_id=command.conversation_id,
            position=position + i,
            role=m.role,
            content=m.content,
            created_at=now,
            name=m.name,
            otid=m.otid,
            sender_id=m.sender_id,
            run_id=run_id,
            tokens=tokens_of(m.content, count),
        )
        for i, m in enumerate(command.messages)
    ]


def tokens_of(parts: tuple[Part, ...], count: Count) -> int:
    """Return the tokens a model reads in a message of these parts; reasoning is not sent back."""
    total = MESSAGE_TOKENS
    for part in parts:
        match part:
            case TextPart(text):
                total += count(text)
            case ToolCallPart(name=name, arguments=arguments):
                total += count(name) + count(arguments) + MESSAGE_TOKENS
            case ToolReturnPart(text=text):
                total += count(text) + MESSAGE_TOKENS
            case ImagePart():
                total += IMAGE_TOKENS
            case ReasoningPart():
                pass
    return total
