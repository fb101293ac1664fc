"""Stored messages as entries of a window: encoded for the provider once, counted once."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from actors import clock
from actors.commands import SendMessages
from actors.llm import encoding
from actors.llm.dialects import CHAT, Dialect
from actors.thoughts import rejoined
from actors.tokens import estimate
from actors.window import Entry
from storage.records import (
    Agent,
    ApprovalPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

IMAGE_TOKENS = 800  # about what providers charge for one image of ordinary size
IMAGE_CHARS = 4 * IMAGE_TOKENS  # characters that cost as much
MESSAGE_TOKENS = 4  # what the chat format adds to each message

Count = Callable[[str], int]


def entries(message: Message, dialect: Dialect = CHAT, *, return_chars: int | None = None) -> list[Entry]:
    """Return the message as the provider sees it: one entry, or one for each tool result of a row.

    Of a result it sees `return_chars` characters at most, and no more images than cost as much: one alone
    must not fill the window.
    """
    if message.excluded:
        return []
    if message.role != "tool":
        message = as_written(message)
        calls = sum(isinstance(part, ToolCallPart) for part in message.content)
        wire = encoding.encode_message(message, dialect)
        return [Entry(message.position, message.role, message.tokens, wire, calls)] if wire else []
    return _returned(message, dialect, return_chars)


def _returned(message: Message, dialect: Dialect, return_chars: int | None) -> list[Entry]:
    returns = [part for part in message.content if isinstance(part, ToolReturnPart)]
    share = -(-message.tokens // max(1, len(returns)))
    seen = returns if return_chars is None else [_shortened(part, return_chars) for part in returns]
    found: list[Entry] = []
    for part, whole in zip(seen, returns, strict=True):
        tokens = share
        if part is not whole:
            cost = estimate(part.text) + 2 * MESSAGE_TOKENS + IMAGE_TOKENS * len(part.shown)
            tokens = min(share, cost)
        found.append(Entry(message.position, "tool", tokens, encoding.encode_return(part, message, dialect)))
    if found and (images := encoding.encode_images(replace(message, content=tuple(seen)), dialect)):
        found[-1] = replace(found[-1], wire=found[-1].wire + b"," + images)
    return found


def _shortened(part: ToolReturnPart, most_chars: int) -> ToolReturnPart:
    """Return what a model is shown of a result: the beginning of its text, and the first of its images.

    Images cost what the characters of as many tokens do; one is always shown.
    """
    text, shown = part.text, part.shown
    most_images = max(1, most_chars // IMAGE_CHARS)
    if len(text) > most_chars:
        text = f"{text[:most_chars]}... [{len(part.text)} characters]"
    if len(shown) > most_images:
        text = f"{text}\n[the first {most_images} of {len(shown)} images]".lstrip()
        return replace(part, text=text, images=shown[:most_images])
    return part if text is part.text else replace(part, text=text)


def as_written(message: Message) -> Message:
    """Return the message as its model wrote it: thoughts back where it put them."""
    content = rejoined(message.content)
    return message if content is message.content else replace(message, content=content)


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
    """Return the tokens a model reads in a message of these parts; reasoners do not read their own."""
    total = MESSAGE_TOKENS
    for part in parts:
        match part:
            case TextPart(text):
                total += count(text)
            case ToolCallPart(name=name, arguments=arguments):
                total += count(name) + count(arguments) + MESSAGE_TOKENS
            case ToolReturnPart(text=text):
                total += count(text) + MESSAGE_TOKENS + IMAGE_TOKENS * len(part.shown)
            case ImagePart():
                total += IMAGE_TOKENS
            case ReasoningPart(reasoning=text, source="non_reasoner_model"):
                total += count(text)
            case ReasoningPart() | ApprovalPart():
                pass
    return total


def joined(messages: Sequence[Message]) -> list[Message]:
    """Return messages as models see them: what one step said is one message, calls that had to wait included.

    An answer says nothing of its own; arguments that it changed are those of the call from then on, so
    that a model sees what was really run.
    """
    seen: list[Message] = []
    for message in messages:
        if message.role != "approval":
            seen.append(message)
            continue
        place = _of_same_step(seen, message.step_id)
        if not any(isinstance(part, ToolCallPart) for part in message.content):
            if place is not None:
                seen[place] = replace(seen[place], content=_edited(seen[place].content, message.content))
        elif place is not None and seen[place].role == "assistant":
            before = seen[place]
            content, tokens = before.content + message.content, before.tokens + message.tokens
            seen[place] = replace(before, content=content, tokens=tokens)
        else:
            seen.append(message)
    return seen


def _of_same_step(seen: list[Message], step_id: str | None) -> int | None:
    """Return where the step's last message is; what was put aside behind it is passed over."""
    for place in range(len(seen) - 1, -1, -1):
        if seen[place].excluded or seen[place].role == "summary":
            continue
        return place if step_id is not None and seen[place].step_id == step_id else None
    return None


def _edited(calls: tuple[Part, ...], answer: tuple[Part, ...]) -> tuple[Part, ...]:
    changed = {p.tool_call_id: p.arguments for p in answer if isinstance(p, ApprovalPart) and p.arguments}
    return tuple(
        replace(part, arguments=changed[part.id])
        if isinstance(part, ToolCallPart) and part.id in changed
        else part
        for part in calls
    )
