"""A conversation in memory: its window ready for the model, its mailbox, and the turn that runs."""

import asyncio
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from actors import openstep, prompt, window
from actors.commands import Disposition
from actors.entries import entries, joined
from actors.few import Few
from actors.heard import Heard
from actors.jobs import Job
from actors.llm import openai_chat
from actors.llm.dialects import CHAT, Dialect
from actors.loop import NOTHING_RAN
from actors.mailbox import Mailbox, Waiting
from actors.openstep import OpenStep
from actors.window import Entry
from storage.checkpoints import WindowUpdate
from storage.pending_records import PendingRequest
from storage.records import Agent, Block, Conversation, JsonObject, Message, ModelSettings, TextPart

if TYPE_CHECKING:
    from actors.turn import TurnRunner


FEWEST_RETURN_CHARS = 5_000
ENCODED_AT_ONCE = 200  # messages of a window that is loaded, about half a millisecond
RETURN_SHARE = 0.8  # characters for each token of the window; about four characters are a token


class Thread:
    """The hot state of one conversation. Only its own turn and the actor's edits change it."""

    __slots__ = (
        "announced",
        "compiled_for",
        "conversation",
        "dialect",
        "end_position",
        "entries",
        "from_position",
        "heard",
        "jobs",
        "loaded",
        "mailbox",
        "measured",
        "open",
        "pending",
        "ran",
        "return_chars",
        "scheduled",
        "steering",
        "stored",
        "summary",
        "system_id",
        "system_tokens",
        "system_wire",
        "task",
        "tokens",
        "turn",
        "wire_bytes",
        "woken",
    )

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.dialect = CHAT  # in which `entries` and `summary` are encoded
        self.mailbox = Mailbox()
        self.jobs: list[Job[Any]] = []  # its control lane: each runs before the next command
        self.steering: list[Waiting] = []
        self.announced = Few[str]()  # runs that clients were told wait here
        self.pending: PendingRequest | None = None  # what somebody outside has to answer first
        self.ran = NOTHING_RAN  # before what it asks, or the answer: what rules look at in the answer's turn
        self.open: OpenStep | None = None  # the step that has no results yet; models do not see it
        self.turn: TurnRunner | None = None
        self.task: asyncio.Task[None] | None = None
        self.scheduled = False
        self.heard: Heard | None = None  # the otids of its latest messages, once somebody has asked
        self.loaded = False
        self.woken = 0.0  # when a turn's need had it loaded
        self.entries: list[Entry] = []
        self.summary: Entry | None = None  # stands for what left the window; models see it before the rest
        self.tokens = 0  # of the summary and the entries
        self.wire_bytes = 0  # of the same, encoded
        self.return_chars: int | None = None  # of one tool result that models are shown
        self.from_position = conversation.from_position
        self.end_position = conversation.end_position
        self.stored: tuple[int, int] | None = None  # where its row says that the window and the summary are
        self.system_id = ""
        self.system_wire = b""
        self.system_tokens = 0
        self.measured = True  # an edit that changed what fills the window was told to who follows
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
        heard_bytes = 0 if self.heard is None else self.heard.size_bytes
        return 1200 + self.wire_bytes + 160 * len(self.entries) + 2 * len(self.system_wire) + heard_bytes

    def disposition(self, run_id: str) -> tuple[Disposition, int]:
        """Return what an unfinished run of this conversation is doing, and its place if it is queued."""
        if any(w.run_id == run_id for w in self.steering):
            return "steered", 0
        waiting = (*self.steering, *self.mailbox)
        place = next((i for i, w in enumerate(waiting, 1) if w.run_id == run_id), 0)
        if place and (place > 1 or self.turn is not None or self.pending is not None):
            return "queued", place
        if self.turn is not None and any(w.run_id == run_id for w in self.turn.joined):
            return "steered", 0
        return "started", 0

    def take(self) -> Waiting | None:
        """Remove and return the next command. Steering that came too late for its turn comes first.

        While a step is open there is none but the one that goes on with it: an answer, or its own.
        """
        if self.pending is not None or self.open is not None:
            following = next((w for w in (*self.steering, *self.mailbox) if self._goes_on(w)), None)
            return None if following is None else self.remove(following.run_id)
        return self.steering.pop(0) if self.steering else self.mailbox.take()

    def _goes_on(self, waiting: Waiting) -> bool:
        if self.pending is not None:
            return bool(waiting.command.approvals)
        return waiting.applied or bool(waiting.command.approvals)

    @property
    def resuming(self) -> bool:
        """Whether a turn that an earlier life began has to go on first."""
        return any(w.applied for w in self.mailbox)

    @property
    def under_way(self) -> tuple[str, ...]:
        """The runs of its turn; before it has one, those that an earlier life began."""
        if self.turn is None:
            return tuple([w.run_id for w in self.mailbox if w.applied])
        return (self.turn.run_id, *[w.run_id for w in self.turn.joined])

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

    def model_settings(self, settings: ModelSettings) -> ModelSettings:
        """Return how a model is called here: what the conversation sets wins over the agent's `settings`."""
        own = self.conversation.model_settings
        return settings if not own else overridden(settings, own)

    def loading(self, messages: list[Message], *, open_steps: Collection[str] = ()) -> Iterator[None]:
        """Take the stored window, mended where it is broken. The first message is the system prompt.

        Of `open_steps` the last one here that has no results is kept out of the window; one that a fork
        begins with is its parent's to go on with. Yields now and then, for other work; the thread is loaded
        when this is exhausted.
        """
        system, *rest = messages
        self.set_system(system.id, _text(system), system.tokens)
        self.compiled_for = -1
        shared = self.conversation.parent_position or 0
        own = [m for m in rest if m.role != "summary" and m.position > shared]
        self.open = openstep.find(own, open_steps)
        yield from self._take_window(rest)
        self.loaded = True

    def recode(self, messages: list[Message], dialect: Dialect) -> None:
        """Take the window again, as it is stored, for a model that is written to in another dialect."""
        self.dialect = dialect
        for _ in self._take_window(messages[1:]):  # at once: the turn that goes on with it changes it, too
            pass

    def _take_window(self, messages: list[Message]) -> Iterator[None]:
        self.summary = next(
            (e for m in messages if m.role == "summary" for e in entries(m, self.dialect)), None
        )
        stored = [m for m in messages if m.role != "summary" and not (self.open and self.open.holds(m))]
        mended = window.repair(joined(stored)).messages
        encoded: list[Entry] = []
        for first in range(0, len(mended), ENCODED_AT_ONCE):
            if first:
                yield
            for message in mended[first : first + ENCODED_AT_ONCE]:
                encoded += entries(message, self.dialect, return_chars=self.return_chars)
        self.entries = encoded
        self._count()

    def bound_returns(self, window_tokens: int) -> None:
        """Let one tool result take about a fifth of the window at most, from the next message on."""
        self.return_chars = max(FEWEST_RETURN_CHARS, int(RETURN_SHARE * window_tokens))

    def set_system(self, message_id: str, text: str, tokens: int) -> None:
        """Show models another system prompt from the next turn on."""
        self.system_id = message_id
        self.system_wire = openai_chat.encode_system(text)
        self.system_tokens = tokens

    def append(self, messages: list[Message]) -> None:
        """Add committed messages to the window. A summary takes the place of the one before.

        Those of an open step wait for its results.
        """
        if messages:
            self.end_position = messages[-1].position + 1
        if self.heard is not None:
            self.heard.take(messages)
        for message in joined(self._closed(messages)):
            if message.role == "summary":
                self.summary = next(iter(entries(message, self.dialect)), None)
                self._count()
                continue
            for entry in entries(message, self.dialect, return_chars=self.return_chars):
                self.entries.append(entry)
                self.tokens += entry.tokens
                self.wire_bytes += len(entry.wire)

    def _closed(self, messages: list[Message]) -> list[Message]:
        """Return the messages that models may see now; results bring those of the open step with them."""
        opened = self.open
        if opened is None:
            return messages
        if not any(opened.ended_by(m) for m in messages):
            return [m for m in messages if not opened.holds(m)]
        self.open = None
        return [*opened.messages, *(m for m in messages if not opened.holds(m))]

    def window_until(self, end_position: int) -> WindowUpdate:
        """Return the window as a commit writes it that ends the conversation at `end_position`.

        Nobody has read the summary of a conversation that is not loaded: it stays the one that is stored.
        """
        held = 0 if self.summary is None else self.summary.position
        return WindowUpdate(
            id=self.id,
            from_position=self.from_position,
            end_position=end_position,
            summary_position=held if self.loaded else None,
            only_grows=self.loaded and self.stored == (self.from_position, held),
        )

    def keep(self, *written: WindowUpdate) -> None:
        """Remember what a commit wrote of the window, so that the next one need not write it again."""
        for one in written:
            if one.summary_position is not None:
                self.stored = one.from_position, one.summary_position

    def evict(self, from_position: int) -> None:
        """Move the window's start. An open step stays: its results are still to come."""
        if self.open is not None:
            from_position = min(from_position, self.open.position)
        self.entries = [e for e in self.entries if e.position >= from_position]
        self.from_position = from_position
        self.stored = None
        self._count()

    def clear(self) -> None:
        """Show models nothing of what was said so far, not even its summary; all of it stays stored."""
        self.summary = None
        self.evict(self.end_position)

    def withdraw(self, positions: set[int]) -> None:
        """Show models these messages no more; they stay in the history."""
        self.entries = [e for e in self.entries if e.position not in positions]
        self._count()

    def part(self, parent_id: str, position: int) -> None:
        """Take as the fork's own what it shared with this parent after `position`: there are copies now."""
        fork = self.conversation
        if fork.parent_id == parent_id and (fork.parent_position or 0) > position:
            self.conversation = replace(fork, parent_position=position)

    def has_call(self, call_id: str) -> bool:
        """Say whether a call of the window has this id."""
        quoted = msgspec.json.encode(call_id)
        return any(quoted in e.wire for e in self.entries if e.calls)

    @property
    def view(self) -> list[Entry]:
        """What models see between the system prompt and new input: the summary, then the window."""
        return self.entries if self.summary is None else [self.summary, *self.entries]

    def _count(self) -> None:
        seen = self.view
        self.tokens = sum(e.tokens for e in seen)
        self.wire_bytes = sum(len(e.wire) for e in seen)


def compile_for(
    agent: Agent, blocks: list[Block], thread: Thread, *, at: datetime, line_numbers: bool, archival: int = 0
) -> str:
    """Return the system prompt of a conversation as it would be compiled now."""
    return prompt.compile_system(
        agent,
        blocks,
        conversation_id=thread.id,
        recompiled_at=at,
        archival=archival,
        previous_messages=max(0, thread.end_position - 1),
        line_numbers=line_numbers,
    )


def overridden(settings: ModelSettings, own: JsonObject) -> ModelSettings:
    """Return `settings` with `own` over them, which have the API's shape and were checked at the edge.

    Null leaves what `settings` say.
    """
    names = ("temperature", "max_output_tokens", "parallel_tool_calls", "response_format", "strict")
    chosen: JsonObject = {name: own[name] for name in names if own.get(name) is not None}
    reasoning: JsonObject = own.get("reasoning") or {}
    if (effort := reasoning.get("reasoning_effort")) is not None:
        chosen["reasoning_effort"] = effort
    known = (*names, "reasoning", "provider_type")
    chosen["extra"] = settings.extra | {name: value for name, value in own.items() if name not in known}
    return replace(settings, **chosen)


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def text_parts(text: str) -> tuple[TextPart, ...]:
    """Return the content of a message that is one text."""
    return (TextPart(text),)
