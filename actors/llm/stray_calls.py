"""Finds tool calls that a model wrote as text, in the spellings that models have been seen to use. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from msgspec import Struct

from actors import clock
from actors.llm.model import Piece, TextPiece, ToolCallPiece
from actors.llm.openai_chat import mend, short_call_id

_FENCE = re.compile(r"\s*(?:```(?:json)?\s*|<tool_call>\s*|<\|python_tag\|>\s*|\[TOOL_CALLS\]\s*)?")
_OPENINGS = ("```json", "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]")
FIRST_KEY = re.compile(r'\{\s*"([^"\\]*)("\s*:\s*)?')
NAME_VALUE = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)(")?')
CALL_KEYS = frozenset({"name", "arguments", "parameters", "type", "id", "function", "tool", "tool_calls"})


class Call(Struct, frozen=True):
    """A call found in text. `arguments` is JSON text."""

    name: str
    arguments: str


def find_calls(text: str, tools: Mapping[str, frozenset[str]]) -> list[Call] | None:
    """Return the calls that a text consists of, or `None` where any of it is something else.

    A call names a tool that is offered and has every argument that the tool requires: an example in
    prose, an object of another shape and a list of data are no calls.
    """
    body = unwrapped(text.strip())
    values: list[object] = []
    decoder = json.JSONDecoder(strict=False)
    place = 0
    while place < len(body):
        try:
            value, place = decoder.raw_decode(body, place)
        except (ValueError, RecursionError):
            return None
        values += cast("list[object]", value) if isinstance(value, list) else [value]
        place = cast("re.Match[str]", _BETWEEN.match(body, place)).end()
    calls = [call for value in values if (call := _call_of(value, tools)) is not None]
    return calls if calls and len(calls) == len(values) else None


_BETWEEN = re.compile(r"(?:\s|,|;|</?tool_call>|```(?:json)?)*")
_WRAPPERS = (
    re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL),
    re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>)?", re.DOTALL),
    re.compile(r"(?:<\|python_tag\|>|\[TOOL_CALLS\])\s*(.*)", re.DOTALL),
)


def unwrapped(text: str) -> str:
    """Return a text without the marks around it."""
    for wrapper in _WRAPPERS:
        if (inner := wrapper.fullmatch(text)) is not None:
            return inner[1]
    return text


def _call_of(value: object, tools: Mapping[str, frozenset[str]]) -> Call | None:
    if not isinstance(value, dict):
        return None
    call = cast("dict[str, object]", value)
    function = call.get("function")
    if isinstance(function, dict):
        call = cast("dict[str, object]", function)
    elif isinstance(call.get("tool_calls"), list) and len(call) == 1:
        inner = cast("Sequence[object]", call["tool_calls"])
        return _call_of(inner[0], tools) if len(inner) == 1 else None
    name = call.get("name") or call.get("tool")
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or name not in tools or not isinstance(arguments, dict):
        return None
    if not tools[name] <= cast("dict[str, object]", arguments).keys():
        return None
    return Call(name, mend(json.dumps(arguments, ensure_ascii=False)))


class StrayReader:
    """Watches text for calls that nobody recognised: the whole answer consists of calls of offered tools.

    `settled` says that it is ordinary text and need not be watched any more; `called` that it was a call.
    """

    def __init__(self, tools: Mapping[str, frozenset[str]]) -> None:
        self.settled = False
        self.called = False
        self.cut = False
        self.over = False
        self._tools = tools
        self._held = ""
        self._named = False  # the beginning names a tool: only the end can tell more
        self._parts: list[str] = []

    def feed(self, text: str) -> list[Piece]:
        """Return what these words settle."""
        if self.settled:
            return as_text(text)
        if self._named:
            self._parts.append(text)
            return []
        held = self._held = self._held + text
        if self._may_be_call(held):
            return []
        return self._settle()

    def close(self) -> list[Piece]:
        """Return what was held back, at the end of the answer."""
        self._held += "".join(self._parts)
        self._parts = []
        calls = find_calls(self._held, self._tools) if self._held else None
        if calls is None:
            return self._settle()
        self.called = True
        self._held = ""
        return given(calls)

    def _settle(self) -> list[Piece]:
        held, self._held = self._held, ""
        self.settled = True
        return as_text(held)

    def _may_be_call(self, held: str) -> bool:
        rest = behind_marks(held)
        if not rest or may_open(held):
            return True
        if rest.startswith("["):
            rest = rest[1:].lstrip()
            if not rest:
                return True
        if not rest.startswith("{"):
            return False
        key = FIRST_KEY.match(rest)
        if key is None:
            return not rest[1:].strip()
        if not key[2]:
            return any(word.startswith(key[1]) for word in CALL_KEYS)
        if key[1] == "name" and (name := NAME_VALUE.match(rest)) is not None:
            if name[2]:
                self._named = name[1] in self._tools
                return self._named
            return any(tool.startswith(name[1]) for tool in self._tools)
        return key[1] in CALL_KEYS


def behind_marks(text: str) -> str:
    """Return a text without the mark that some models put before a call."""
    return text[cast("re.Match[str]", _FENCE.match(text)).end() :]


def may_open(text: str) -> bool:
    """Whether a text is the beginning of one of the marks before a call."""
    bare = text.lstrip()
    return any(opening.startswith(bare) for opening in _OPENINGS)


def given(calls: Sequence[Call]) -> list[Piece]:
    """Return calls as pieces, each whole."""
    return [ToolCallPiece(i, fresh_id(), call.name, call.arguments) for i, call in enumerate(calls)]


def fresh_id() -> str:
    """Return an id for a call that came without one."""
    return short_call_id(clock.new_id("call"))


def as_text(text: str) -> list[Piece]:
    """Return text as pieces; no text is none."""
    return [TextPiece(text)] if text else []
