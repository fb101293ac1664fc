"""Reduces runs' events to the chunks of an AI SDK UI message stream, which `useChat` reads. Pure.

One stream writes one message of the client's list: that of a run, or of a run and those that went on with
it after an approval. A step whose attempt failed is taken back with `reset-step`, so that what the client
shows in the end is what the history holds. Deltas go out as they come; a committed message goes out whole
where its deltas were never seen, so a run that is read from storage gives the same message.
"""

from typing import ClassVar

import msgspec
from msgspec import Struct

from actors.events import (
    ApprovalRequested,
    BlockChanged,
    BlockCreated,
    BlockDetached,
    Compacted,
    MessageCommitted,
    ReasoningDelta,
    ReasoningEnded,
    Retracted,
    RunFinished,
    RunStarted,
    RunSteered,
    StepFinished,
    StepStarted,
    StepTimed,
    TextDelta,
    TextEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
    WindowMoved,
)
from gateway.ai_sdk import parts
from gateway.ai_sdk.calls import Calls
from gateway.ai_sdk.parts import DONE
from gateway.letta import messages as letta_messages
from gateway.letta.runs import failure_of
from gateway.letta.speech import DEFAULT_VOICE, Speech, heard
from gateway.reducing import Reducing, Table
from storage.records import (
    ApprovalPart,
    Message,
    ReasoningPart,
    RunError,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

_encode = msgspec.json.Encoder().encode


class Mode(Struct, frozen=True, kw_only=True):
    """How a stream is written.

    `message_id` is that of the message in the client's list, where it is not the run's own id. `earlier` are
    the runs that wrote its beginning and are fed as well. `client_tools` are run by the client.
    `known` are the calls that this message shows already, `settled` those of them of which it shows the end.
    `thoughts` says that reasoning and memory may be shown.
    """

    conversation_id: str
    message_id: str | None = None
    earlier: frozenset[str] = frozenset()
    client_tools: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()
    thoughts: bool = True


class Reducer(Reducing):
    """One stream. Feed it the runs' events from the first; it is finished after the last `RunFinished`."""

    def __init__(self, run_id: str, mode: Mode) -> None:
        super().__init__(self._TABLE)
        self.run_id = run_id
        self.finished = False
        self._mode = mode
        self._step_open = False  # a step of the client's message is open
        self._step_id: str | None = None
        self._durable = False  # what the open step shows is committed
        self._stream: tuple[str, str] | None = None  # the open text or reasoning, and its message
        self._head = b""
        self._begun: set[str] = set()  # messages whose deltas went out and were not taken back
        self._told: set[str] = set()  # messages that are shown for good
        self._calls = Calls(mode.client_tools, known=mode.known, settled=mode.settled)
        self._speech = Speech(DEFAULT_VOICE)

    def begin(self) -> bytes:
        """Return the first chunk of the stream."""
        message_id = self._mode.message_id or self.run_id
        return parts.start(message_id, run_id=self.run_id, conversation_id=self._mode.conversation_id)

    def broken_off(self, error: RunError) -> bytes:
        """Return the end of a stream that cannot go on although its run may."""
        self.finished = True
        text = error.message if error.detail is None else f"{error.message}: {error.detail}"
        return parts.chunk("error", errorText=text) + DONE

    # --- runs and steps ---------------------------------------------------------------------------

    def _run_started(self, _: RunStarted, out: list[bytes]) -> None:
        """Take back what an earlier attempt showed and did not commit; nobody else could after a crash."""
        self._calls.restart()
        if self._step_open and not self._durable:
            self._reset(out)

    def _run_steered(self, event: RunSteered, out: list[bytes]) -> None:
        out.append(parts.chunk("message-metadata", messageMetadata={"runId": event.into}))

    def _run_finished(self, event: RunFinished, out: list[bytes]) -> None:
        self._close_step(out)
        if event.run_id in self._mode.earlier:
            return  # the next run goes on with the same message
        self.finished = True
        error = failure_of(event.status, event.stop_reason, event.error)
        if error is not None:
            out.append(parts.chunk("error", errorText=error.message))
        else:
            if event.status == "cancelled":
                out.append(parts.chunk("abort", reason="the run was cancelled"))
            out.append(parts.finish(event.stop_reason, event.usage))
        out.append(DONE)

    def _step_started(self, event: StepStarted, out: list[bytes]) -> None:
        self._open_step(event.step_id, out)

    def _step_finished(self, _: StepFinished, out: list[bytes]) -> None:
        self._close_step(out)

    def _open_step(self, step_id: str | None, out: list[bytes]) -> None:
        """Begin a step; one that was taken back is begun again without a new chunk."""
        if self._step_open and (self._step_id == step_id or not self._shows()):
            self._step_id = step_id
            return
        self._close_step(out)
        self._step_open, self._step_id, self._durable = True, step_id, False
        out.append(parts.chunk("start-step"))

    def _shows(self) -> bool:
        """Say whether the open step shows anything."""
        return self._durable or bool(self._begun)

    def _close_step(self, out: list[bytes]) -> None:
        if self._step_open:
            self._end_stream(out)
            self._begun.clear()
            self._calls.step_ended()
            self._step_open = False
            out.append(parts.chunk("finish-step"))

    def _retracted(self, _: Retracted, out: list[bytes]) -> None:
        if self._step_open:
            self._reset(out)

    def _reset(self, out: list[bytes]) -> None:
        """Let the client forget all that the open step shows."""
        self._stream = None
        self._begun.clear()
        self._durable = False
        self._calls.reset()
        self._speech = Speech(DEFAULT_VOICE)
        out.append(parts.chunk("reset-step"))

    # --- text and reasoning -----------------------------------------------------------------------

    def _text_delta(self, event: TextDelta, out: list[bytes]) -> None:
        if event.text:
            self._say("text", event.message_id, event.text, out)

    def _reasoning_delta(self, event: ReasoningDelta, out: list[bytes]) -> None:
        if event.text and self._mode.thoughts:
            self._say("reasoning", event.message_id, event.text, out)

    def _say(self, kind: str, message_id: str, text: str, out: list[bytes]) -> None:
        if self._stream != (kind, message_id):
            self._begin_stream(kind, message_id, out)
        out.append(self._head + _encode(text) + parts.END)

    def _begin_stream(self, kind: str, message_id: str, out: list[bytes]) -> None:
        self._end_stream(out)
        if not self._step_open:
            self._open_step(self._step_id, out)
        self._stream = (kind, message_id)
        self._begun.add(message_id)
        self._head = parts.delta_head(f"{kind}-delta", "id", message_id, "delta")
        out.append(parts.chunk(f"{kind}-start", id=message_id))

    def _end_stream(self, out: list[bytes]) -> None:
        if self._stream is not None:
            kind, message_id = self._stream
            self._stream = None
            out.append(parts.chunk(f"{kind}-end", id=message_id))

    def _stream_ended(self, _: TextEnded | ReasoningEnded, out: list[bytes]) -> None:
        self._end_stream(out)

    # --- tool calls -------------------------------------------------------------------------------

    def _call_started(self, event: ToolCallStarted, out: list[bytes]) -> None:
        if not self._speech.begins(event):
            self._begin_call(event, out)

    def _begin_call(self, event: ToolCallStarted, out: list[bytes]) -> None:
        if not self._step_open:
            self._open_step(self._step_id, out)
        self._begun.add(event.message_id)
        self._calls.begin(event.call_id, event.name, out)

    def _call_delta(self, event: ToolCallDelta, out: list[bytes]) -> None:
        if (said := self._speech.hear(event)) is None:
            self._calls.write(event.call_id, event.text, out)
        elif said:
            self._say("text", event.message_id, said, out)

    def _call_ended(self, event: ToolCallEnded, out: list[bytes]) -> None:
        if (silent := self._speech.ends(event)) is not None:
            started, arguments = silent
            self._begin_call(started, out)
            self._calls.write(event.call_id, arguments, out)
        self._calls.end(event.call_id, out)

    def _requested(self, event: ApprovalRequested, out: list[bytes]) -> None:
        for asked in event.calls:
            client = asked.kind == "client"
            self._calls.ask(asked.id, asked.name, asked.arguments, client=client, out=out)

    def _returned(self, event: ToolReturned, out: list[bytes]) -> None:
        self._calls.returned(event.call_id, event.status, event.text, out, images=event.images)

    # --- what is committed ------------------------------------------------------------------------

    def _committed(self, event: MessageCommitted, out: list[bytes]) -> None:
        message = event.message
        if message.id in self._told:
            return
        self._told.add(message.id)
        match message.role:
            case "summary":
                out.append(parts.summary_of(message))
            case "approval" | "tool":
                self._answers(heard(message, DEFAULT_VOICE), out)
            case "assistant" if not letta_messages.is_input(message):
                if message.id in self._begun:
                    self._durable = True
                else:
                    self._whole(heard(message, DEFAULT_VOICE), out)
            case _:
                pass

    def _whole(self, message: Message, out: list[bytes]) -> None:
        """Show a message of which no delta was seen."""
        self._open_step(message.step_id, out)
        self._durable = True
        for part in message.content:
            match part:
                case TextPart(text):
                    self._say("text", message.id, text, out)
                    self._end_stream(out)
                case ReasoningPart(reasoning) if self._mode.thoughts:
                    self._say("reasoning", message.id, reasoning, out)
                    self._end_stream(out)
                case ToolCallPart(call_id, name, arguments):
                    self._calls.show(call_id, name, arguments, out)
                case _:
                    pass

    def _answers(self, message: Message, out: list[bytes]) -> None:
        """Show requests, decisions and results as they are stored."""
        for part in message.content:
            match part:
                case ToolReturnPart():
                    self._calls.committed(part, out)
                case ApprovalPart():
                    self._calls.decide(part, out)
                case ToolCallPart(call_id, name, arguments):
                    client = name in self._mode.client_tools
                    if call_id not in self._calls:
                        self._open_step(message.step_id, out)
                        self._durable = True
                    self._calls.ask(call_id, name, arguments, client=client, out=out)
                case _:
                    pass

    # --- everything else --------------------------------------------------------------------------

    def _compacted(self, event: Compacted, out: list[bytes]) -> None:
        if event.summary_message_id is None:  # else the summary's own message tells it
            out.append(parts.compaction(event))

    def _memory(self, event: BlockChanged | BlockCreated | BlockDetached, out: list[bytes]) -> None:
        if self._mode.thoughts:
            out.append(parts.memory(event))

    def _window_moved(self, event: WindowMoved, out: list[bytes]) -> None:
        out.append(parts.window(event))

    def _step_timed(self, event: StepTimed, out: list[bytes]) -> None:
        out.append(parts.step(event))

    # Events without an entry have no image: starts of text and reasoning (their first delta opens them),
    # answers to requests (told by their messages) and the queue (nobody who follows a run sees it).
    _TABLE: ClassVar[Table] = {
        RunStarted: _run_started,
        RunSteered: _run_steered,
        RunFinished: _run_finished,
        StepStarted: _step_started,
        StepFinished: _step_finished,
        StepTimed: _step_timed,
        Retracted: _retracted,
        TextDelta: _text_delta,
        TextEnded: _stream_ended,
        ReasoningDelta: _reasoning_delta,
        ReasoningEnded: _stream_ended,
        ToolCallStarted: _call_started,
        ToolCallDelta: _call_delta,
        ToolCallEnded: _call_ended,
        ToolReturned: _returned,
        ApprovalRequested: _requested,
        MessageCommitted: _committed,
        Compacted: _compacted,
        WindowMoved: _window_moved,
        BlockChanged: _memory,
        BlockCreated: _memory,
        BlockDetached: _memory,
    }
