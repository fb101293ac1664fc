"""The messages that an agent begins with: those of its request, or the boot sequence of its type."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from actors import agent_types, clock, offers
from actors.commands import InputMessage
from actors.entries import tokens_of
from actors.tokens import estimate
from storage.records import (
    Agent,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

_Row = tuple[Role, tuple[Part, ...], InputMessage | None]  # with the message that it comes from

SAID = "Sent message successfully."
NEVER = "Never (first login)"
_THOUGHT = (
    "I am awake for the first time: my memory and my persona are before me, and what I learn from now on "
    "I can write down and find again. Nobody has written yet; I let it be known that I am here."
)
_FIRST_WORDS = "I am here, and I will remember what you tell me."


def sequence(agent: Agent, given: Sequence[InputMessage] | None, *, at: datetime) -> tuple[Message, ...]:
    """Return the first messages of a conversation, from position 1 on.

    `given` replaces the boot sequence, which only memgpt agents have: a thought, a first message and a
    login. Where such an agent speaks, it does so by calling `send_message`.
    """
    memgpt = agent_types.type_of(agent.settings.agent_type).memgpt
    rows: list[_Row] = []
    if given is None and memgpt:
        rows += _spoken(_FIRST_WORDS, _THOUGHT, None)
        rows.append(("user", (TextPart(login(at, agent.settings.timezone)),), None))
    for message in given or ():
        if memgpt and message.role == "assistant":
            text = "".join(part.text for part in message.content if isinstance(part, TextPart))
            rows += _spoken(text, None, message)
        else:
            rows.append((message.role, message.content, message))
    return tuple(
        Message(
            id=clock.new_id("message"),
            organization_id=agent.organization_id,
            agent_id=agent.id,
            conversation_id=agent.id,
            position=position,
            role=role,
            content=parts,
            created_at=at,
            name=None if source is None else source.name,
            otid=None if source is None or role == "tool" else source.otid,
            sender_id=None if source is None else source.sender_id,
            tokens=tokens_of(parts, estimate),
        )
        for position, (role, parts, source) in enumerate(rows, start=1)
    )


def login(at: datetime, timezone: str) -> str:
    """Return the text of the message that says when the person was here last: never before."""
    fields = {"type": "login", "last_login": NEVER, "time": offers.local(at, timezone)}
    return msgspec.json.encode(fields).decode()


def _spoken(text: str, thought: str | None, source: InputMessage | None) -> list[_Row]:
    """Return a call of `send_message` and its result."""
    call = ToolCallPart(clock.new_id("call"), "send_message", msgspec.json.encode({"message": text}).decode())
    thoughts = () if thought is None else (ReasoningPart(thought, source="non_reasoner_model"),)
    result = ToolReturnPart(call.id, call.name, "success", SAID)
    return [("assistant", (*thoughts, call), source), ("tool", (result,), source)]
