"""Puts an answer together, whichever dialect it is spelled in: text, thoughts, calls, and its one end.

Pure. `openai_stream` and `responses_stream` say what an event means.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.clock import new_id
from actors.errors import ModelError
from actors.llm import errors, openai_shapes
from actors.llm.model import (
    Finished,
    Piece,
    ReasoningPiece,
    SignaturePiece,
    TextPiece,
    ToolCallPiece,
    UsageReported,
)
from actors.llm.openai_chat import mend, short_call_id
from actors.llm.openai_shapes import ToolCallDelta
from actors.llm.sse import EventReader, OversizedEventError

ANSWER_CHARS = 8_000_000
CALLS = 256


class _Call(Struct):
    """A call while it arrives. `place` is the provider's index; `number` is ours, -1 until it has a name."""

    place: int | None
    given_id: str
    id: str
    name: str = ""
    number: int = -1
    fragments: list[str] = []
    signature: str | None = None


class AnswerDecoder:
    """Decodes one answer: server-sent events, or one JSON body where a server ignores `stream`.

    `feed` and `close` return what they could decode. A failure is raised at once, or, when the same
    bytes also held pieces, by the next call; `failure` tells without another call. After the end mark
    (`done`) everything is ignored. Call ids are unique within the answer; those of earlier answers are
    the caller's to compare. `secrets` are kept out of error texts.
    """

    def __init__(self, provider: str = "model", *, secrets: Collection[str] = ()) -> None:
        self.done = False
        self.failure: ModelError | None = None
        self._provider = provider
        self._secrets = secrets
        self._chars = 0
        self._finish = ""
        self._usage: UsageReported | None = None
        self._calls: list[_Call] = []
        self._numbered = 0
        self._half: tuple[object, str] | None = None  # a high surrogate that waits for its other half
        self._events = EventReader()

    def feed(self, chunk: bytes) -> list[Piece]:
        """Decode the next bytes of the body, cut anywhere.

        Raises:
            ModelError: The provider reported an error, or sent what cannot be read.
        """
        if self.failure is not None:
            raise self.failure
        pieces: list[Piece] = []
        if not self.done:
            try:
                self._take(chunk, pieces)
            except ModelError as failure:
                self._fail(failure, pieces)
        return pieces

    def close(self) -> list[Piece]:
        """End the body: decode what waits, then end the answer.

        Raises:
            ModelError: The answer is cut short or empty.
        """
        if self.failure is not None:
            raise self.failure
        pieces: list[Piece] = []
        if not self.done:
            try:
                self._take_rest(pieces)
                if not self.done:
                    self._end(pieces, complete=self._events.is_json)
            except ModelError as failure:
                self._fail(failure, pieces)
        return pieces

    @property
    def ended(self) -> bool:
        """Say whether the provider has named its finish reason, so that a cut loses nothing."""
        return bool(self._finish)

    def _fail(self, failure: ModelError, pieces: list[Piece]) -> None:
        self.failure = failure
        if not pieces:
            raise failure

    def _take(self, chunk: bytes, pieces: list[Piece]) -> None:
        try:
            events = self._events.feed(chunk)
        except OversizedEventError as error:
            raise self._garbage(str(error), retryable=False) from error
        for name, data in events:
            self._dispatch(name, data, pieces)
            if self.done:
                return

    def _take_rest(self, pieces: list[Piece]) -> None:
        """Decode a JSON body, or a last event that lacks its blank line; half an event is a cut."""
        rest = self._events.rest()
        if rest is None:
            return
        name, data = rest
        if self._events.is_json or _is_event(data):
            self._dispatch(name, data, pieces)
        elif not self.ended:
            raise errors.cut_short(self._provider)

    def _dispatch(self, name: bytes, data: bytes, pieces: list[Piece]) -> None:
        """Take one event, or the whole JSON body."""
        raise NotImplementedError

    def _take_odd(self, name: bytes, data: bytes, pieces: list[Piece]) -> None:
        """Take what the typed decode could not: the end mark, errors, and odd shapes."""
        said = data.strip()
        if said == b"[DONE]":
            self._end(pieces, complete=True)
        elif said:
            self._take_object(self._odd_object(name, data), pieces)

    def _take_object(self, event: Mapping[str, Any], pieces: list[Piece]) -> None:
        """Take an event whose fields may have unusual types."""
        raise NotImplementedError

    def _odd_object(self, name: bytes, data: bytes) -> Mapping[str, Any]:
        """Return the JSON object of an event that the typed decode refused; raise what it reports."""
        try:
            value = openai_shapes.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._garbage("something that is not JSON") from error
        if name == b"error" or openai_shapes.is_error(value):
            refusal = errors.read_refusal(value)
            raise errors.classify(refusal, self._provider, secrets=self._secrets)
        if not isinstance(value, Mapping):
            raise self._garbage("something that is no object")
        return cast("Mapping[str, Any]", value)

    # --- tool calls -------------------------------------------------------------------------

    def _take_call(self, delta: ToolCallDelta, pieces: list[Piece]) -> None:
        function = delta.function
        name = (function.name if function else None) or ""
        arguments = (function.arguments if function else None) or ""
        call = self._open_call(delta, name, arguments)
        if call is None:
            call = self._new_call(delta)
        elif delta.id and not call.given_id:
            call.given_id = delta.id
        if delta.extra_content is not None:
            call.signature = openai_shapes.call_signature(delta.extra_content) or call.signature
        if name and not call.name:
            call.name = mend(name)
            self._chars += len(name)
        if arguments:
            arguments = self._text(call.id, arguments, pieces)
            call.fragments.append(arguments)
        if call.number >= 0:
            if arguments:
                pieces.append(ToolCallPiece(call.number, "", "", arguments))
        elif call.name:
            self._announce(call, pieces)

    def _open_call(self, delta: ToolCallDelta, name: str, arguments: str) -> _Call | None:
        """Return the call that this fragment continues, or `None` if it begins one.

        Servers leave out the index, the id or both, give two calls one index, or repeat the name (or
        even a new id) with every fragment. A call begins where a name arrives that is not a repetition.
        """
        if delta.index is not None:
            same = [call for call in self._calls if call.place == delta.index]
        elif delta.id:
            same = [call for call in self._calls if call.given_id == delta.id]
        else:
            same = self._calls
        if delta.id:
            same = [call for call in same if call.given_id == delta.id] or same
        if not same:
            return None
        call = same[-1]
        if not name or not call.name:
            return call
        if delta.id and call.given_id:
            if delta.id != call.given_id:
                return None
        elif name != call.name:
            return None
        if arguments.strip() and _is_complete("".join(call.fragments)):
            return None
        return call

    def _new_call(self, delta: ToolCallDelta) -> _Call:
        if len(self._calls) >= CALLS:
            raise self._garbage(f"more than {CALLS} tool calls in one answer", retryable=False)
        given = delta.id or ""
        call_id = mend(given)
        while not call_id or any(call.id == call_id for call in self._calls):
            call_id = short_call_id(new_id("call"))
        call = _Call(delta.index, given, call_id)
        self._calls.append(call)
        return call

    def _announce(self, call: _Call, pieces: list[Piece]) -> None:
        call.number = self._numbered
        self._numbered += 1
        pieces.append(ToolCallPiece(call.number, call.id, call.name, "".join(call.fragments)))

    # --- text -------------------------------------------------------------------------------

    def _text(self, stream: object, text: str, pieces: list[Piece]) -> str:
        """Count and clean a fragment of `stream`; a surrogate half at its end waits for the next one."""
        self._chars += len(text)
        if self._chars > ANSWER_CHARS:
            raise self._garbage(f"an answer of more than {ANSWER_CHARS:,} characters", retryable=False)
        if self._half is not None:
            text = self._join_half(stream, text, pieces)
        if text.isascii():
            return text.replace("\0", "\ufffd") if "\0" in text else text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._half = (stream, text[-1])
            text = text[:-1]
        try:
            text.encode()
        except UnicodeEncodeError:
            return mend(text)
        return text.replace("\0", "\ufffd") if "\0" in text else text

    def _join_half(self, stream: object, text: str, pieces: list[Piece]) -> str:
        assert self._half is not None
        waits, half = self._half
        if waits == stream:
            self._half = None
            return half + text
        self._flush_half(pieces)
        return text

    def _flush_half(self, pieces: list[Piece]) -> None:
        if self._half is None:
            return
        stream, self._half = self._half[0], None
        if stream is TextPiece:
            pieces.append(TextPiece("\ufffd"))
        elif stream is ReasoningPiece:
            pieces.append(ReasoningPiece("\ufffd"))
        else:
            call = next(call for call in self._calls if call.id == stream)
            call.fragments.append("\ufffd")
            if call.number >= 0:
                pieces.append(ToolCallPiece(call.number, "", "", "\ufffd"))

    # --- the end ----------------------------------------------------------------------------

    def _end(self, pieces: list[Piece], *, complete: bool) -> None:
        """End the answer; `complete` says that the provider marked the end itself."""
        reason = self._finish or ("stop" if complete and (self._chars or self._calls) else "")
        if not reason:
            begun = self._chars or self._calls
            raise errors.cut_short(self._provider) if begun else errors.empty_answer(self._provider)
        self._flush_half(pieces)
        for call in self._calls:
            if call.number < 0:
                self._announce(call, pieces)
            if call.signature is not None:
                pieces.append(SignaturePiece(call.signature, call.number))
        if self._usage is not None:
            pieces.append(self._usage)
        pieces.append(Finished(reason))
        self.done = True

    def _garbage(self, what: str, *, retryable: bool = True) -> ModelError:
        return errors.garbage(self._provider, what, retryable=retryable)


def _is_complete(arguments: str) -> bool:
    try:
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return True


def _is_event(data: bytes) -> bool:
    if data.strip() in (b"", b"[DONE]"):
        return True
    try:
        openai_shapes.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
