"""Projects the events of one run onto an AG-UI stream that a verifier accepts, whatever happened. Pure.

The image of each event (`images`) goes out as it is; around it stand what one event alone cannot say: the
shared state, spans of reasoning, messages of which the deltas were never seen, and the ends of whatever an
attempt that crashed left open. The same events give the same stream, so it can be taken up at any of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from actors.commands import InputMessage
from actors.events import (
    BlockChanged,
    BlockCreated,
    BlockDetached,
    Event,
    MessageCommitted,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    RunFinished,
    RunStarted,
    RunSteered,
    RunStopped,
    StepFinished,
    StepStarted,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
)
from gateway.agui import images
from gateway.agui import messages as agui_messages
from gateway.agui import state as agui_state
from gateway.agui.messages import reasoning_id, result_id
from gateway.agui.state import Memory, MemoryEvent
from gateway.letta import messages as letta_messages
from gateway.withdrawn import withdrawn
from storage.records import JsonObject, Message, ToolCallPart, ToolReturnPart

SNAPSHOT_BYTES = 1024 * 1024  # of the messages in one snapshot; or one that is larger

_encode = msgspec.json.Encoder().encode

_Table = dict[type[Event], Callable[["Projection", Any, list[bytes]], None]]


class Ids(Struct, frozen=True):
    """What a client calls its thread and its run."""

    thread: str
    run: str


class Projection:
    """One stream of one run. Feed it the run's events from the first; it is over when `finished`.

    Before an event that `wants_state` or `wants_history` its shell gives it what is stored. `thoughts` says
    whether the client may see reasoning and memory, `answering` that the run began with an answer to calls
    of an earlier one. A client that takes the stream up (`resuming`) knows an older state than the stored
    one, so it is told of every change after it.
    """

    def __init__(
        self, run_id: str, ids: Ids, *, thoughts: bool, answering: bool = False, resuming: bool = False
    ) -> None:
        self.finished = False
        self._run_id = run_id
        self._resuming = resuming
        self._runs = {run_id}
        self._ids = ids
        self._thoughts = thoughts
        self._answering = answering
        self._begun = False
        self._stated = False
        self._memory = Memory(trusting=not resuming)
        self._state: JsonObject | None = None
        self._history: Sequence[Message] | None = None
        self._whole = True
        self._inputs: list[InputMessage] = []
        self._open: dict[str, tuple[bytes, ...]] = {}  # what ends each stream that is open, oldest first
        self._told: set[str] = set()  # ids of what the client has seen whole, or the beginning of
        self._committed: set[str] = set()

    # --- what the shell has to know ---------------------------------------------------------------

    def wants_state(self, event: Event) -> bool:
        """Say whether an event is shown with the shared state; give it by `knows_state`."""
        return isinstance(event, RunStarted | RunSteered) and not self._begun

    def wants_history(self, event: Event) -> bool:
        """Say whether an event is shown with the conversation's messages; give them by `knows_history`.

        Where calls of an earlier run get their results, where an attempt is taken back, and before the
        client is asked.
        """
        if isinstance(event, RunStarted):
            return self._begun or self._answering
        return isinstance(event, RunFinished) and bool(event.interrupts)

    def knows_state(self, state: JsonObject) -> None:
        """Take the shared state as it is stored now."""
        self._state = state

    def knows_history(self, messages: Sequence[Message], *, whole: bool = True) -> None:
        """Take the conversation's messages as they are stored now, oldest first; all of them if `whole`."""
        self._history = messages
        self._whole = whole

    # --- events -----------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[bytes]:
        """Return the AG-UI events that an event becomes, each the JSON of one."""
        if not self._thoughts and images.is_thought(event):
            return []
        show = self._TABLE.get(type(event))
        if show is None:
            return [images.image(event, self._ids.thread)]
        out: list[bytes] = []
        show(self, event, out)
        return out

    def broken_off(self, message: str, code: str) -> list[bytes]:
        """Return the end of a stream that cannot go on although its run may."""
        self.finished = True
        out: list[bytes] = []
        if not self._begun and not self._resuming:
            self._begin(RunStarted(self._run_id, "", 1, ()), out)
        out.append(_encode({"type": "RUN_ERROR", "message": message, "code": code}))
        return out

    def _image(self, event: Event, out: list[bytes]) -> None:
        out.append(images.image(event, self._ids.thread))

    # --- the run ----------------------------------------------------------------------------------

    def _run_started(self, event: RunStarted, out: list[bytes]) -> None:
        if self._begun:  # an attempt crashed: what it showed is void, what it committed stays
            self._close(out)
            self._take_back(self._history or ())
            self._snapshot(out)
        else:
            self._begin(event, out)

    def _take_back(self, stored: Sequence[Message]) -> None:
        """Let results be told anew, and the snapshot show what was told in part and is stored by now.

        No stream may begin twice, so such a message could not be said whole.
        """
        self._told = {key for key in self._told if not key.startswith(result_id(""))}
        for message in stored:
            calls = {part.id for part in message.content if isinstance(part, ToolCallPart)}
            if self._told & {message.id, reasoning_id(message.id), *calls}:
                self._committed.add(message.id)

    def _run_steered(self, event: RunSteered, out: list[bytes]) -> None:
        """Go on with the run that this one joined; others that join say no more than that."""
        if event.run_id in self._runs:
            self._runs.add(event.into)
            if not self._begun:
                self._begin(RunStarted(event.run_id, "", 1, event.messages), out)
        self._image(event, out)

    def _begin(self, event: RunStarted, out: list[bytes]) -> None:
        self._begun = True
        self._inputs = list(event.messages)
        out.append(images.run_started(event, self._ids.thread, self._ids.run))
        if self._state is not None:
            self._stated = True
            self._memory.take(self._state)
            out.append(agui_state.snapshot(self._state))
        self._snapshot(out)

    def _snapshot(self, out: list[bytes]) -> None:
        """Show the conversation as it was at this place of the stream, however late that is read.

        What comes after this place comes as events: a message is never in both. Of a long conversation it
        is the newest part, from a message of the user on; its metadata says so, and where the rest is.
        Of an answer that was given anew the last one is shown.
        """
        stored, self._history = self._history, None
        if stored is None:
            return
        first = min((m.position for m in stored if m.run_id in self._runs), default=None)
        before = [m for m in stored if m.id in self._committed or first is None or m.position < first]
        gone = withdrawn(before)
        stays = (message for message in before if message.id not in gone)
        told = [(m, one) for m in stays for one in agui_messages.show(m, thoughts=self._thoughts)]
        known = {one["id"] for _, one in told}
        shown = [one for _, one in told]
        shown += [
            agui_messages.show_input(message, "")
            for message in self._inputs
            if message.otid is not None and message.otid not in known
        ]
        begin = agui_messages.newest(shown, SNAPSHOT_BYTES, whole=self._whole)
        event: JsonObject = {"type": "MESSAGES_SNAPSHOT", "messages": shown[begin:]}
        if told and (begin or not self._whole):
            event["metadata"] = {"wakeful": _left_out([message for message, _ in told], begin)}
        out.append(_encode(event))

    def _run_stopped(self, event: RunStopped, out: list[bytes]) -> None:
        if not self._begun:  # it was withdrawn while it waited
            self._begin(RunStarted(event.run_id, "", 1, ()), out)
        self._image(event, out)

    def _run_finished(self, event: RunFinished, out: list[bytes]) -> None:
        self.finished = True
        if not self._begun:  # it was withdrawn while it waited
            self._begin(RunStarted(event.run_id, "", 1, ()), out)
        self._close(out)
        self._snapshot(out)
        if self._stated:
            status = "waiting_for_approval" if event.interrupts else "idle"
            out.append(agui_state.delta(agui_state.status_is(status)))
        out.append(images.run_finished(event, self._ids.thread, self._ids.run))

    def _close(self, out: list[bytes]) -> None:
        """End what is open."""
        for ends in reversed(self._open.values()):
            out += ends
        self._open.clear()

    def _step_started(self, event: StepStarted, out: list[bytes]) -> None:
        self._open[event.step_id] = (_encode({"type": "STEP_FINISHED", "stepName": event.step_id}),)
        self._image(event, out)

    def _step_finished(self, event: StepFinished, out: list[bytes]) -> None:
        if self._open.pop(event.step_id, None) is None:
            return  # its start is not in this stream: an earlier run began it, or its attempt is void
        self._image(event, out)
        if event.usage.prompt and self._stated:
            out.append(agui_state.delta(agui_state.context_is(event.usage.prompt)))

    # --- what is said -----------------------------------------------------------------------------

    def _text_started(self, event: TextStarted, out: list[bytes]) -> None:
        self._told.add(event.message_id)
        self._starts(event.message_id, event, TextEnded(event.run_id, event.message_id), out)

    def _reasoning_started(self, event: ReasoningStarted, out: list[bytes]) -> None:
        key = reasoning_id(event.message_id)
        self._told.add(key)
        out.append(_span("REASONING_START", key))
        self._starts(key, event, ReasoningEnded(event.run_id, event.message_id), out)
        self._open[key] = (*self._open[key], _span("REASONING_END", key))

    def _tool_call_started(self, event: ToolCallStarted, out: list[bytes]) -> None:
        self._told.add(event.call_id)
        end = ToolCallEnded(event.run_id, event.message_id, event.call_id)
        self._starts(event.call_id, event, end, out)

    def _starts(self, key: str, event: Event, end: Event, out: list[bytes]) -> None:
        self._open[key] = (images.image(end, self._ids.thread),)
        self._image(event, out)

    def _text_ended(self, event: TextEnded, out: list[bytes]) -> None:
        out += self._open.pop(event.message_id, ())

    def _reasoning_ended(self, event: ReasoningEnded, out: list[bytes]) -> None:
        out += self._open.pop(reasoning_id(event.message_id), ())

    def _tool_call_ended(self, event: ToolCallEnded, out: list[bytes]) -> None:
        out += self._open.pop(event.call_id, ())

    def _tool_returned(self, event: ToolReturned, out: list[bytes]) -> None:
        self._told.add(result_id(event.call_id))
        self._image(event, out)

    # --- what is durable --------------------------------------------------------------------------

    def _message(self, event: MessageCommitted, out: list[bytes]) -> None:
        """Say what was never streamed, then that the message is durable."""
        message = event.message
        known = message.id in self._committed
        self._committed.add(message.id)
        if known:
            pass  # told already, or shown by a snapshot
        elif message.role == "tool":
            self._results(message, out)
        elif message.role in ("assistant", "approval") and not letta_messages.is_input(message):
            self._say(event.run_id, message, out)
        self._image(event, out)

    def _results(self, message: Message, out: list[bytes]) -> None:
        for part in message.content:
            if isinstance(part, ToolReturnPart) and result_id(part.tool_call_id) not in self._told:
                returned = ToolReturned(
                    message.run_id or "", part.tool_call_id, part.name, part.status, part.text, part.shown
                )
                self._tool_returned(returned, out)

    def _say(self, run_id: str, message: Message, out: list[bytes]) -> None:
        thought = agui_messages.thought_of(message.content)
        if thought and self._thoughts and reasoning_id(message.id) not in self._told:
            self._reasoning_started(ReasoningStarted(run_id, message.id), out)
            self._image(ReasoningDelta(run_id, message.id, thought), out)
            self._reasoning_ended(ReasoningEnded(run_id, message.id), out)
        text = agui_messages.text_of(message.content)
        if text and message.id not in self._told:
            self._text_started(TextStarted(run_id, message.id), out)
            self._image(TextDelta(run_id, message.id, text), out)
            self._text_ended(TextEnded(run_id, message.id), out)
        calls = [part for part in message.content if isinstance(part, ToolCallPart)]
        for index, call in enumerate(calls):
            if call.id in self._told:
                continue
            asks = message.role == "approval"
            started = ToolCallStarted(run_id, message.id, call.id, call.name, index, asks)
            self._tool_call_started(started, out)
            if call.arguments:
                self._image(ToolCallDelta(run_id, message.id, call.id, call.arguments), out)
            self._tool_call_ended(ToolCallEnded(run_id, message.id, call.id), out)

    def _remembers(self, event: MemoryEvent, out: list[bytes]) -> None:
        self._image(event, out)
        operations = self._memory.follow(event)
        if operations and self._stated:
            out.append(agui_state.delta(*operations))

    # Events without an entry go out as their image alone.
    _TABLE: ClassVar[_Table] = {
        RunStarted: _run_started,
        RunSteered: _run_steered,
        RunStopped: _run_stopped,
        RunFinished: _run_finished,
        StepStarted: _step_started,
        StepFinished: _step_finished,
        TextStarted: _text_started,
        TextEnded: _text_ended,
        ReasoningStarted: _reasoning_started,
        ReasoningEnded: _reasoning_ended,
        ToolCallStarted: _tool_call_started,
        ToolCallEnded: _tool_call_ended,
        ToolReturned: _tool_returned,
        MessageCommitted: _message,
        BlockChanged: _remembers,
        BlockCreated: _remembers,
        BlockDetached: _remembers,
    }


def _left_out(messages: Sequence[Message], begin: int) -> JsonObject:
    """Return what is said of a snapshot that begins in the middle, or after the last, of these messages."""
    see = f"/v1/conversations/{messages[-1].conversation_id}/messages"
    if begin == len(messages):
        return {"truncated": True, "see": see}
    before = messages[begin].id
    return {"truncated": True, "before": before, "see": f"{see}?order=desc&after={before}"}


def _span(kind: str, message_id: str) -> bytes:
    return _encode({"type": kind, "messageId": message_id})
