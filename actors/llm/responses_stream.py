"""Reads an answer in the responses dialect: events, or one JSON body, become pieces. Pure.

What is not needed is passed over: an event of a type that is not known adds nothing. A server that
sends only an item's end, without its deltas, loses nothing either.
"""

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.llm import errors, openai_shapes
from actors.llm.decoding import AnswerDecoder
from actors.llm.loose import objects
from actors.llm.model import Piece, ReasoningPiece, SignaturePiece, TextPiece, UsageReported
from actors.llm.openai_responses import Signature
from actors.llm.openai_shapes import FunctionDelta, ToolCallDelta


class Event(Struct):
    """One event; which fields it has depends on `type`."""

    type: str = ""
    delta: str | None = None
    output_index: int | None = None
    summary_index: int | None = None
    arguments: str | None = None
    item: dict[str, Any] | None = None
    response: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Event).decode
_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHT = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class ResponsesDecoder(AnswerDecoder):
    """Decodes one answer; see `AnswerDecoder`. Reasoning items end in a piece with their signature."""

    def __init__(self, provider: str = "model", *, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(provider, secrets=secrets)
        self._heard: set[int] = set()  # items of which a delta came

    def _dispatch(self, name: bytes, data: bytes, pieces: list[Piece]) -> None:
        try:
            event = _decode(data)
        except (ValueError, RecursionError):
            self._take_odd(name, data, pieces)
            return
        if event.delta is not None and event.type in _TEXT:  # the usual event
            self._say(event.output_index or 0, event.delta, pieces)
        elif self._events.is_json or name == b"error" or event.type in ("", "error"):
            self._take_odd(name, data, pieces)
        else:
            self._take_event(event, pieces)

    def _take_event(self, event: Event, pieces: list[Piece]) -> None:
        place = event.output_index or 0
        match event.type:
            case _ if event.delta is not None and event.type in _TEXT:
                self._say(place, event.delta, pieces)
            case _ if event.delta is not None and event.type in _THOUGHT:
                self._heard.add(place)
                self._think(event.delta, pieces)
            case "response.function_call_arguments.delta" if event.delta is not None:
                self._heard.add(place)
                self._take_call(ToolCallDelta(place, None, FunctionDelta(None, event.delta)), pieces)
            case "response.function_call_arguments.done" if event.arguments and place not in self._heard:
                self._heard.add(place)
                self._take_call(ToolCallDelta(place, None, FunctionDelta(None, event.arguments)), pieces)
            case "response.reasoning_summary_part.added" if event.summary_index:
                self._think("\n\n", pieces)
            case "response.output_item.added" if event.item is not None:
                self._begin_item(place, event.item, pieces)
            case "response.output_item.done" if event.item is not None:
                self._end_item(place, event.item, pieces)
            case "response.completed" | "response.incomplete" | "response.failed":
                self._end_response(event.response or {}, event.type.rpartition(".")[2], pieces)
            case _:
                pass

    def _take_object(self, event: Mapping[str, Any], pieces: list[Piece]) -> None:
        """Take an event of odd types, or a body that is no stream."""
        if isinstance(event.get("output"), list):
            for place, item in enumerate(objects(event["output"])):
                self._end_item(place, item, pieces)
            self._end_response(event, str(event.get("status") or "completed"), pieces)
        elif event.get("type"):
            known = {field: event.get(field) for field in Event.__struct_fields__}
            self._take_event(msgspec.convert(_plain(known), Event), pieces)

    # --- items --------------------------------------------------------------------------------

    def _begin_item(self, place: int, item: Mapping[str, Any], pieces: list[Piece]) -> None:
        if item.get("type") == "function_call":
            function = FunctionDelta(_string(item.get("name")) or None, None)
            self._take_call(ToolCallDelta(place, _string(item.get("call_id")) or None, function), pieces)

    def _end_item(self, place: int, item: Mapping[str, Any], pieces: list[Piece]) -> None:
        heard = place in self._heard
        match item.get("type"):
            case "function_call":
                if not any(call.place == place for call in self._calls):
                    self._begin_item(place, item, pieces)
                if not heard and (arguments := _string(item.get("arguments"))):
                    self._take_call(ToolCallDelta(place, None, FunctionDelta(None, arguments)), pieces)
            case "message" if not heard:
                for part in objects(item.get("content")):
                    self._say(place, _string(part.get("text") or part.get("refusal")), pieces)
            case "reasoning":
                if not heard:
                    said = item.get("summary") or item.get("content")
                    texts = (_string(part.get("text")) for part in objects(said))
                    self._think("\n\n".join(filter(None, texts)), pieces)
                if encrypted := _string(item.get("encrypted_content")):
                    signature = Signature(_string(item.get("id")), encrypted)
                    pieces.append(SignaturePiece(msgspec.json.encode(signature).decode()))
            case _:
                pass
        self._heard.add(place)

    def _say(self, place: int, text: str, pieces: list[Piece]) -> None:
        self._heard.add(place)
        if text and (text := self._text(TextPiece, text, pieces)):
            pieces.append(TextPiece(text))

    def _think(self, text: str, pieces: list[Piece]) -> None:
        if text and (text := self._text(ReasoningPiece, text, pieces)):
            pieces.append(ReasoningPiece(text))

    def _end_response(self, response: Mapping[str, Any], status: str, pieces: list[Piece]) -> None:
        if status == "failed":
            refusal = errors.read_refusal({"error": response.get("error") or {"message": ""}})
            raise errors.classify(refusal, self._provider, secrets=self._secrets)
        usage = _usage(response.get("usage"))
        if (counts := openai_shapes.read_usage(usage)) is not None:
            self._usage = UsageReported(counts)
        self._finish = "tool_calls" if self._calls else "stop"
        if status == "incomplete":
            details: Any = response.get("incomplete_details")
            reason = (
                cast("Mapping[str, object]", details).get("reason") if isinstance(details, dict) else None
            )
            self._finish = "content_filter" if reason == "content_filter" else "length"
        elif not (self._chars or self._calls):
            raise errors.empty_answer(self._provider)
        self._end(pieces, complete=True)


def _usage(usage: object) -> dict[str, Any] | None:
    """Return this dialect's counts under the names of chat completions."""
    if not isinstance(usage, dict):
        return None
    counts = cast("dict[str, Any]", usage)
    return {
        "prompt_tokens": counts.get("input_tokens"),
        "completion_tokens": counts.get("output_tokens"),
        "total_tokens": counts.get("total_tokens"),
        "prompt_tokens_details": counts.get("input_tokens_details"),
        "completion_tokens_details": counts.get("output_tokens_details"),
    }


def _plain(event: Mapping[str, object]) -> dict[str, object]:
    """Return an event's fields, those of odd types left out."""
    kinds: dict[str, type] = {"output_index": int, "summary_index": int, "item": dict, "response": dict}
    return {key: value for key, value in event.items() if type(value) is kinds.get(key, str)}


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
