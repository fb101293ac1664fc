"""Reads a chat-completions answer: bytes as the network cut them become pieces.

Pure. What providers usually send takes one typed decode per event; anything else (odd types, lone
surrogates, error objects) takes a second, lenient look.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from actors.llm import errors, openai_shapes
from actors.llm.decoding import AnswerDecoder
from actors.llm.dialects import Thoughts
from actors.llm.model import Piece, ReasoningPiece, SignaturePiece, TextPiece, UsageReported
from actors.llm.openai_shapes import Chunk, Delta

_decode = msgspec.json.Decoder(Chunk).decode


class ChatDecoder(AnswerDecoder):
    """Decodes one answer; see `AnswerDecoder`. `thoughts` says what the model wants back of its own."""

    def __init__(
        self, provider: str = "model", *, secrets: Collection[str] = (), thoughts: Thoughts = "none"
    ) -> None:
        super().__init__(provider, secrets=secrets)
        self._keeps_details = thoughts == "reasoning_details"
        self._details: list[openai_shapes.Detail] = []

    def _dispatch(self, name: bytes, data: bytes, pieces: list[Piece]) -> None:
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            self._take_odd(name, data, pieces)
            return
        if chunk.error is not None or name == b"error" or not (chunk.choices or chunk.usage):
            self._take_odd(name, data, pieces)
        else:
            self._take_chunk(chunk, pieces)

    # --- what an event holds ----------------------------------------------------------------

    def _take_object(self, event: Mapping[str, Any], pieces: list[Piece]) -> None:
        self._take_chunk(openai_shapes.read_chunk(event), pieces)

    def _take_chunk(self, chunk: Chunk, pieces: list[Piece]) -> None:
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta
            if delta is None and not self._chars and not self._calls:
                delta = choice.message
            if delta is not None:
                self._take_delta(delta, pieces)
            if choice.finish_reason:
                if choice.finish_reason == "error":
                    raise errors.classify(errors.Refusal(), self._provider)
                self._finish = choice.finish_reason
        if chunk.usage and (usage := openai_shapes.read_usage(chunk.usage)) is not None:
            self._usage = UsageReported(usage)

    def _take_delta(self, delta: Delta, pieces: list[Piece]) -> None:
        text = delta.content
        thought = delta.reasoning_content or delta.reasoning
        if delta.reasoning_details is not None and self._keeps_details:
            self._details += delta.reasoning_details
        if isinstance(text, list) or (delta.reasoning_details and not thought):
            thought = thought or openai_shapes.thought_of(delta)
            text = openai_shapes.text_of(text)
        if thought and (thought := self._text(ReasoningPiece, thought, pieces)):
            pieces.append(ReasoningPiece(thought))
        text = text or delta.refusal
        if text and (text := self._text(TextPiece, text, pieces)):
            pieces.append(TextPiece(text))
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._take_call(call, pieces)

    def _end(self, pieces: list[Piece], *, complete: bool) -> None:
        if self._details:
            details, self._details = openai_shapes.joined_details(self._details), []
            pieces.append(SignaturePiece(msgspec.json.encode(details).decode("utf-8", "replace")))
        super()._end(pieces, complete=complete)
