"""A conversation in memory: its window ready for the model, its mailbox, and the turn that runs."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from actors import prompt, window
from actors.entries import entries
from actors.llm import openai_chat
from actors.mailbox import Mailbox, Waiting
from actors.window import Entry
from storage.records import Agent, Block, Conversation, Message, TextPart

if TYPE_CHECKING:
    from actors.turn import TurnRunner


class Thread:
    """The hot state of one conversation. Only its own turn and the actor's edits change it."""

    __slots__ = (
        "compiled_for",
        "conversation",
        "end_position",
        "entries",
        "from_position",
        "loaded",
        "mailbox",
        "scheduled",
        "steering",
        "system_id",
        "system_tokens",
        "system_wire",
        "task",
        "tokens",
        "turn",
    )

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.mailbox = Mailbox()
        self.steering: list[Waiting] = []
        self.turn: TurnRunner | None = None
        self.task: asyncio.Task[None] | None = None
        self.scheduled = False
        self.loaded = False
        self.entries: list[Entry] = []
        self.tokens = 0
        self.from_position = conversation.from_position
        self.end_position = conversation.end_position
        self.system_id = ""
        self.system_wire = b""
        self.system_tokens = 0
        self.compiled_for = -1  # the actor's memory version that `system_text` shows; -1 is unknown

    @property
    def system_text(self) -> str:
        """The compiled system prompt, read back from its encoding: few ask, and it is long."""
        return openai_chat.system_text(self.system_wire)

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self.conversation.id

    @property
    def busy(self) -> bool:
        """Whether a turn runs or waits here."""
        return self.turn is not None or self.scheduled or len(self.mailbox) > 0

    @property
    def size_bytes(self) -> int:
        """About what the thread costs in memory."""
        wires = sum(len(e.wire) for e in self.entries) if self.entries else 0
        return 1200 + wires + 160 * len(self.entries) + 2 * len(self.system_wire)

    def take(self) -> Waiting | None:
        """Remove and return the next command. Steering that came too late for its turn comes first."""
        return self.steering.pop(0) if self.steering else self.mailbox.take()

    def in_hand(self) -> set[int]:
        """Return the commands that a crash of the conversation is to be blamed on.

        Those of its turn; where it crashed before it had one, the command that would be next.
        """
        if self.turn is not None:
            return {w.seq for w in (self.turn.waiting, *self.turn.joined)}
        following = next(iter((*self.steering, *self.mailbox)), None)
        return set() if following is None else {following.seq}

    def take_applied(self) -> list[Waiting]:
        """Remove and return commands that had joined the turn before this life of the agent."""
        applied = [w for w in self.mailbox if w.applied]
        for waiting in applied:
            self.mailbox.remove(waiting.run_id)
        return applied

    def remove(self, run_id: str) -> Waiting | None:
        """Remove and return the command of this run, if it waits here."""
        for waiting in self.steering:
            if waiting.run_id == run_id:
                self.steering.remove(waiting)
                return waiting
        return self.mailbox.remove(run_id)

    def load(self, messages: list[Message]) -> None:
        """Take the stored window, mended where it is broken. The first message is the system prompt."""
        system, *rest = messages
        self.set_system(system.id, _text(system), system.tokens)
        self.compiled_for = -1
        self.entries = [e for m in window.repair(rest).messages for e in entries(m)]
        self.tokens = sum(e.tokens for e in self.entries)
        self.loaded = True

    def set_system(self, message_id: str, text: str, tokens: int) -> None:
        """Show models another system prompt from the next turn on."""
        self.system_id = message_id
        self.system_wire = openai_chat.encode_system(text)
        self.system_tokens = tokens

    def append(self, messages: list[Message]) -> None:
        """Add committed messages to the window."""
        for message in messages:
            self.end_position = message.position + 1
            for entry in entries(message):
                self.entries.append(entry)
                self.tokens += entry.tokens

    def evict(self, from_position: int) -> None:
        """Move the window's start."""
        self.entries = [e for e in self.entries if e.position >= from_position]
        self.tokens = sum(e.tokens for e in self.entries)
        self.from_position = from_position

    def withdraw(self, positions: set[int]) -> None:
        """Show models these messages no more; they stay in the history."""
        self.entries = [e for e in self.entries if e.position not in positions]
        self.tokens = sum(e.tokens for e in self.entries)

    def has_call(self, call_id: str) -> bool:
        """Say whether a call of the window has this id."""
        quoted = msgspec.json.encode(call_id)
        return any(quoted in e.wire for e in self.entries if e.calls)


def compile_for(
    agent: Agent, blocks: list[Block], thread: Thread, *, at: datetime, line_numbers: bool
) -> str:
    """Return the system prompt of a conversation as it would be compiled now."""
    return prompt.compile_system(
        agent,
        blocks,
        conversation_id=thread.id,
        recompiled_at=at,
        previous_messages=max(0, thread.end_position - 1),
        line_numbers=line_numbers,
    )


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def text_parts(text: str) -> tuple[TextPart, ...]:
    """Return the content of a message that is one text."""
    return (TextPart(text),)
