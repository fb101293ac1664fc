"""What the tests of the model layer share: answers as bytes, and what was decoded as one value."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct

from actors.errors import ModelError
from actors.llm.model import (
    Finished,
    ModelRef,
    Piece,
    ReasoningPiece,
    Request,
    TextPiece,
    ToolCallPiece,
    UsageReported,
)
from actors.llm.openai_stream import ChatDecoder
from storage.records import ModelSettings, Usage

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "llm_cases.json").read_text(encoding="utf-8")
)


class Decoded(Struct):
    """An answer put together from its pieces."""

    text: str = ""
    reasoning: str = ""
    calls: list[list[str]] = []
    usage: Usage | None = None
    finish: str | None = None
    error: ModelError | None = None

    def take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            assert self.finish is None, "nothing comes after Finished"
            match piece:
                case TextPiece(text):
                    assert text
                    self.text += text
                case ReasoningPiece(text):
                    assert text
                    self.reasoning += text
                case ToolCallPiece(index, call_id, name, arguments):
                    if index == len(self.calls):
                        assert call_id
                        self.calls.append([call_id, name, ""])
                    else:
                        assert (call_id, name) == ("", "")
                    self.calls[index][2] += arguments
                case UsageReported(usage):
                    self.usage = usage
                case Finished(reason):
                    self.finish = reason


def decode(chunks: Iterable[bytes], **how: Any) -> Decoded:
    """Decode a whole body that arrives in these cuts."""
    decoder, decoded = ChatDecoder("test", **how), Decoded()
    try:
        for chunk in chunks:
            decoded.take(decoder.feed(chunk))
        decoded.take(decoder.close())
        if decoder.failure is not None:
            raise decoder.failure
    except ModelError as error:
        decoded.error = error
    assert decoded.error is decoder.failure
    return decoded


def cuts(body: bytes, at: Iterable[int]) -> list[bytes]:
    """Cut a body at these places."""
    places = sorted({0, len(body), *(place for place in at if place < len(body))})
    return [body[a:b] for a, b in pairwise(places)]


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """Return one streamed event as OpenAI writes it."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps({**head, "choices": [choice], **more}).encode()


DONE = b"data: [DONE]\n\n"


def ref(**changes: Any) -> ModelRef:
    """Return a model reference."""
    fields: dict[str, Any] = {
        "handle": "openai/gpt-4o-mini",
        "name": "gpt-4o-mini",
        "provider": "openai",
        "provider_type": "openai",
        "endpoint": "http://localhost/v1",
        "context_window_tokens": 128_000,
    }
    return ModelRef(**{**fields, **changes})


def request(*messages: bytes, **changes: Any) -> Request:
    """Return a model request."""
    fields: dict[str, Any] = {
        "messages": list(messages) or [b'{"role":"user","content":"hi"}'],
        "tools": None,
        "tool_choice": "auto",
        "settings": ModelSettings(),
        "key": "step-1.0",
    }
    return Request(**{**fields, **changes})
