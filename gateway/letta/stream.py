"""Reduces a run's events to the chunks of Letta's event stream. Pure, and as fast as a token needs.

A chunk is the bytes of one server-sent event. With `tokens` the deltas go out as they come and a
committed message only where its deltas were never seen; without, messages go out as they are committed.

Numbered streams (background runs) carry `seq_id` = attempt x 1,000,000 + n. `n` counts the message chunks
of the attempt from its `RunStarted`, 1, 2, 3 ..., before any message type is filtered out. Both the log and
the stored messages give the same events again, so the same chunk has the same number in every stream of
the run that was opened in the same mode; a new attempt is above every number of the one before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from actors.events import (
    Compacted,
    Event,
    Logged,
    MessageCommitted,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from gateway.letta import messages as letta_messages
from gateway.letta.runs import failure_of, usage_of
from gateway.letta.shapes import LettaMessage
from gateway.letta.speech import DEFAULT_VOICE, Speech, Voice, heard
from gateway.reducing import Reducing, Table
from storage.records import Message, Run, RunError, RunStatus, StopReason

ATTEMPT = 1_000_000  # message chunks of one attempt; far above what max_steps and any model can say

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class Mode(Struct, frozen=True, kw_only=True):
    """How a stream is written. `include` are the message types to send, all where it is `None`.

    `voice` names the tool by whose calls the agent speaks; without one calls stay calls.
    `compactions` says that the client wants to be told when the window is shortened.
    `after` is the last number the client has seen; only a `numbered` stream can be resumed.
    """

    tokens: bool = False
    numbered: bool = False
    include: frozenset[str] | None = None
    compactions: bool = False
    voice: Voice | None = DEFAULT_VOICE
    after: int = 0


class Reducer(Reducing):
    """One stream of one run. Feed it the run's events from the first; it is finished after `RunFinished`."""

    def __init__(self, run_id: str, mode: Mode) -> None:
        super().__init__(self._TOKENS if mode.tokens else self._WHOLE)
        self.run_id = run_id
        self.finished = False
        self.seq = 0
        self._mode = mode
        self._numbered = mode.numbered
        self._after = mode.after
        self._step_id: str | None = None
        self._message_id = ""
        self._date = ""
        self._heads: dict[str, bytes] = {}
        self._told: set[str] = set()
        self._begun: set[str] = set()  # messages whose deltas went out in this attempt
        self._asking: set[str] = set()  # those whose calls wait for an answer
        self._text = self._wants("assistant_message")
        self._reasoning = self._wants("reasoning_message")
        self._calls = self._wants("tool_call_message")
        self._requests = self._wants("approval_request_message")
        self._speech = None if mode.voice is None else Speech(mode.voice)

    def ping(self, at: datetime) -> bytes:
        """Return a sign of life; it repeats the last number and names the run."""
        ping = {
            "message_type": "ping",
            "id": f"ping-{self.run_id.removeprefix('run-')}",
            "date": letta_messages.date_of(at),
            "seq_id": max(self.seq, self._after) if self._numbered else None,
            "run_id": self.run_id,
        }
        return b"data: " + _encode(ping) + b"\n\n"

    def broken_off(self, error: RunError) -> bytes:
        """Return the end of a stream that cannot go on although its run may."""
        self.finished = True
        return b"".join((_stop("error"), self._error(error), DONE))

    # --- the run ----------------------------------------------------------------------------------

    def _run_started(self, event: RunStarted, _: list[bytes]) -> None:
        self.seq = event.attempt * ATTEMPT
        self._message_id = ""
        self._begun.clear()

    def _step_started(self, event: StepStarted, _: list[bytes]) -> None:
        self._step_id = event.step_id
        self._date = letta_messages.date_of(event.at)

    def _run_finished(self, event: RunFinished, out: list[bytes]) -> None:
        self.finished = True
        out.append(_stop(event.stop_reason))
        error = failure_of(event.status, event.stop_reason, event.error)
        if error is not None:
            out.append(self._error(error))
        elif event.status != "cancelled":
            out.append(b"data: " + _encode(usage_of(event.usage, self.run_id)) + b"\n\n")
        out.append(DONE)

    def _error(self, error: RunError) -> bytes:
        body = {
            "message_type": "error_message",
            "run_id": self.run_id,
            "error_type": error.type,
            "message": error.message,
            "detail": error.detail,
            "seq_id": None,
        }
        return b"event: error\ndata: " + _encode(body) + b"\n\n"

    # --- whole messages ---------------------------------------------------------------------------

    def _committed(self, event: MessageCommitted, out: list[bytes]) -> None:
        message = event.message
        if message.role == "summary":
            self._summary(message, out)
            return
        if letta_messages.is_input(message):
            return
        if message.id in self._begun:
            self._told.add(message.id)  # by its deltas
            return
        shown = letta_messages.show(heard(message, self._mode.voice))
        if message.id in self._told:  # by the attempt before; its numbers are counted all the same
            self.seq += len(shown)
            return
        self._told.add(message.id)
        for one in shown:
            self._whole(one, out)

    def _summary(self, message: Message, out: list[bytes]) -> None:
        """Two numbers, whoever is told: a stream has the same ones in every mode."""
        if message.id in self._told:
            self.seq += 2
            return
        self._told.add(message.id)
        shown = letta_messages.compaction(message, told=self._mode.compactions)
        self.seq += 2 - len(shown)
        for one in shown:
            self._whole(one, out)

    def _compacted(self, event: Compacted, out: list[bytes]) -> None:
        """Tell a compaction that left no summary; the others are told by their message."""
        if event.summary_message_id is not None:
            return
        if self._mode.compactions:
            self._whole(letta_messages.event_of(event.stats, event.id, event.at, event.run_id), out)
        else:
            self.seq += 1

    def _whole(self, one: LettaMessage, out: list[bytes]) -> None:
        self.seq += 1
        include = self._mode.include
        if include is not None and letta_messages.type_of(one) not in include:
            return
        if not self._numbered:
            out.append(b"data: " + _encode(one) + b"\n\n")
        elif self.seq > self._after:
            out.append(b"data: " + _encode(msgspec.structs.replace(one, seq_id=self.seq)) + b"\n\n")

    # --- deltas -----------------------------------------------------------------------------------

    def _text_delta(self, event: TextDelta, out: list[bytes]) -> None:
        text = event.text
        if not text:
            return
        if event.message_id != self._message_id:
            self._open(event.message_id)
        head = self._heads.get("text") or self._head(
            "text", "assistant_message", b',"content":', event.run_id
        )
        self.seq += 1
        if self._text:
            self._delta(head, _encode(text), b"}\n\n", out)

    def _reasoning_delta(self, event: ReasoningDelta, out: list[bytes]) -> None:
        text = event.text
        if not text:
            return
        if event.message_id != self._message_id:
            self._open(event.message_id)
        head = self._heads.get("reasoning") or self._head(
            "reasoning",
            "reasoning_message",
            b',"source":"%b","signature":null,"reasoning":' % event.source.encode(),
            event.run_id,
        )
        self.seq += 1
        if self._reasoning:
            self._delta(head, _encode(text), b"}\n\n", out)

    def _tool_call_started(self, event: ToolCallStarted, out: list[bytes]) -> None:
        if self._speech is not None and self._speech.begins(event):
            return
        if event.asks:
            self._asking.add(event.message_id)
        call = {"name": event.name, "arguments": "", "tool_call_id": event.call_id}
        self._call(event, _encode(call), out)

    def _tool_call_delta(self, event: ToolCallDelta, out: list[bytes]) -> None:
        if self._speech is not None and (said := self._speech.hear(event)) is not None:
            self._text_delta(TextDelta(event.run_id, event.message_id, said), out)
        else:
            self._arguments(event, out)

    def _tool_call_ended(self, event: ToolCallEnded, out: list[bytes]) -> None:
        if self._speech is not None and (silent := self._speech.ends(event)) is not None:
            started, arguments = silent
            call = {"name": started.name, "arguments": "", "tool_call_id": started.call_id}
            self._call(started, _encode(call), out)
            self._arguments(ToolCallDelta(event.run_id, event.message_id, event.call_id, arguments), out)

    def _arguments(self, event: ToolCallDelta, out: list[bytes]) -> None:
        # Every fragment names its call, because parallel calls may interleave.
        if event.text:
            self._call(
                event,
                b'{"arguments":' + _encode(event.text) + b',"tool_call_id":' + _encode(event.call_id) + b"}",
                out,
            )

    def _call(self, event: ToolCallStarted | ToolCallDelta, call: bytes, out: list[bytes]) -> None:
        if event.message_id != self._message_id:
            self._open(event.message_id)
        asks = event.message_id in self._asking
        kind = "approval_request_message" if asks else "tool_call_message"
        head = self._heads.get("call") or self._head("call", kind, b',"tool_call":', event.run_id)
        self.seq += 1
        if self._requests if asks else self._calls:
            self._delta(head, call, b',"tool_calls":' + call + b"}\n\n", out)

    def _delta(self, head: bytes, value: bytes, tail: bytes, out: list[bytes]) -> None:
        if not self._numbered:
            out.append(head + value + tail)
        elif self.seq > self._after:
            out.append(head % self.seq + value + tail)

    def _open(self, message_id: str) -> None:
        """Begin the deltas of a message: every chunk of it shares one date."""
        self._message_id = message_id
        self._heads = {}

    def _head(self, kind: str, message_type: str, field: bytes, run_id: str) -> bytes:
        """Return what every chunk of this kind in this message begins with, up to the delta itself.

        The otid counts the kinds as they appear, which is the order in which they will be stored.
        """
        fixed = {
            "message_type": message_type,
            "id": self._message_id,
            "date": self._date,
            "name": None,
            "otid": letta_messages.otid_of(self._message_id, len(self._heads)),
            "sender_id": None,
            "step_id": self._step_id,
            "is_err": None,
            "run_id": run_id,
        }
        begin = b"data: " + _encode(fixed)[:-1]
        if self._numbered:
            head = begin.replace(b"%", b"%%") + b',"seq_id":%d' + field.replace(b"%", b"%%")
        else:
            head = begin + b',"seq_id":null' + field
        self._heads[kind] = head
        self._begun.add(self._message_id)
        return head

    def _wants(self, message_type: str) -> bool:
        return self._mode.include is None or message_type in self._mode.include

    # Events without an entry have no image here: other ends, tool results before their commit, retractions,
    # joined runs, the queue, timings, window and block changes, and requests and answers, which are told by
    # their messages.
    _WHOLE: ClassVar[Table] = {
        RunStarted: _run_started,
        RunFinished: _run_finished,
        MessageCommitted: _committed,
        Compacted: _compacted,
    }
    _TOKENS: ClassVar[Table] = {
        **_WHOLE,
        StepStarted: _step_started,
        TextDelta: _text_delta,
        ReasoningDelta: _reasoning_delta,
        ToolCallStarted: _tool_call_started,
        ToolCallDelta: _tool_call_delta,
        ToolCallEnded: _tool_call_ended,
    }


def _stop(stop_reason: StopReason) -> bytes:
    return b"data: " + _encode({"message_type": "stop_reason", "stop_reason": stop_reason}) + b"\n\n"


def replay(run: Run, messages: Sequence[Message]) -> list[Logged]:
    """Return the events of a finished run as far as its stored messages tell them.

    Deltas are gone, so numbers differ from those of the live stream: the attempt is one higher than any
    that ran, and a client that resumes gets every message whole.
    """
    assert run.stop_reason is not None
    status: RunStatus = run.status
    stop_reason: Any = run.stop_reason
    events: list[Event] = [RunStarted(run.id, run.conversation_id, run.attempt + 1, (), run.background)]
    events += [MessageCommitted(run.id, message) for message in messages]
    events.append(RunFinished(run.id, status, stop_reason, run.usage, run.error))
    return [Logged(place, event) for place, event in enumerate(events, 1)]
