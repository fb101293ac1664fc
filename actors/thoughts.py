"""Inner thoughts and heartbeats: arguments that every tool of a memgpt agent takes besides its own. Pure."""

import json
import re
from collections.abc import Mapping

from msgspec.structs import replace

from actors import jsontext
from actors.jsontext import StringReader
from storage.records import JsonObject, Part, ReasoningPart, TextPart, Tool, ToolCallPart

THINKING = "thinking"
HEARTBEAT = "request_heartbeat"

_THINKING_SCHEMA: JsonObject = {
    "type": "string",
    "description": "What you think before you act: why this call, and why now. Only you read it.",
}
_HEARTBEAT_SCHEMA: JsonObject = {
    "type": "boolean",
    "description": "True gives you another turn right after this call; false ends your turn with it.",
}


def with_arguments(tool: Tool, *, terminal: bool) -> Tool:
    """Return the tool as a memgpt model is shown it: `thinking` comes first, `request_heartbeat` last.

    A terminal tool ends the turn, so that it takes no heartbeat. An argument of the tool's own that has
    one of these names stays what it is.
    """
    parameters: JsonObject = tool.json_schema.get("parameters") or {"type": "object"}
    own: Mapping[str, JsonObject] = parameters.get("properties") or {}
    required: list[str] = [*(parameters.get("required") or ())]
    properties = {**own}
    if THINKING not in own:
        properties = {THINKING: _THINKING_SCHEMA, **properties}
        required.insert(0, THINKING)
    if not terminal and HEARTBEAT not in own:
        properties[HEARTBEAT] = _HEARTBEAT_SCHEMA
        required.append(HEARTBEAT)
    changed = {**parameters, "properties": properties, "required": required}
    return replace(tool, json_schema={**tool.json_schema, "parameters": changed})


def takes(tool: Tool, name: str) -> bool:
    """Say whether `name` is an argument of the tool's own."""
    parameters: JsonObject = tool.json_schema.get("parameters") or {}
    return name in (parameters.get("properties") or {})


def without_arguments(arguments: str, tool: Tool) -> str:
    """Return a call's arguments as the tool itself takes them; what is no JSON object stays as it is."""
    found = jsontext.members(arguments)
    foreign = {name for name in (THINKING, HEARTBEAT) if not takes(tool, name)}
    if found is None or not any(name in foreign for name, _ in found):
        return arguments
    return jsontext.joined([one for one in found if one[0] not in foreign])


def wants_heartbeat(arguments: str) -> bool:
    """Say whether a call asks for another turn. Weak models write the word instead of the value."""
    for name, text in jsontext.members(arguments) or ():
        if name == HEARTBEAT:
            return text.rsplit(":", 1)[-1].strip().strip('"').lower() == "true"
    return False


# --- thoughts as they arrive ------------------------------------------------------------------


def _partial(tokens: list[str]) -> re.Pattern[str]:
    """Return a pattern that matches whatever may still become these tokens."""
    pattern = ""
    for token in reversed(tokens):
        pattern = f"(?:{token}{pattern})?"
    return re.compile(pattern)


_NAMED = [*f'"{THINKING}"', r"\s*", ":", r"\s*", '"']
_BEGIN = re.compile("".join([r"\s*\{\s*", *_NAMED]))
_MAY_BEGIN = _partial([r"\s*", r"\{", r"\s*", *_NAMED])
_NEXT = re.compile("".join([r",\s*", *_NAMED]))
_MAY_BE_NEXT = _partial([",", r"\s*", *_NAMED])
_OBJECT = re.compile(r"\s*\{")
_MARKS = re.compile(r'\\.|["{}\[\],]', re.DOTALL)


class Splitter:
    """Takes the thoughts out of a call's arguments while their text arrives, wherever it is cut.

    They are the first text of that name. Where they stand in the first place, as the schema has it, nothing
    of the call is shown before they are over. Anything else of that name stays an argument, and is left
    out when the tool runs.
    """

    __slots__ = ("_depth", "_first", "_held", "_quoted", "_state", "_string")

    def __init__(self) -> None:
        # begin, others (before it), next (may be it), thought, behind (a first one), comma (behind it), rest
        self._state = "begin"
        self._first = True
        self._held = ""
        self._depth = 1  # within the other arguments
        self._quoted = False
        self._string = StringReader()

    def feed(self, text: str) -> tuple[str, str]:
        """Return what `text` adds to the thoughts, and to the arguments without them."""
        given = ""
        if self._state in ("begin", "others", "next"):
            text, self._held = self._held + text, ""
            found = self._seek(text)
            given, text = text[: found[0]], text[found[1] :]
        if self._state == "thought":
            thought, end = self._string.feed(text)
            if end < 0:
                return thought, given
            self._state = "behind" if self._first else "rest"
            return thought, given + (self._after(text[end:]) if self._first else text[end:])
        if self._state in ("behind", "comma"):
            return "", self._after(text)
        return "", given + (text if self._state == "rest" else "")

    def _seek(self, text: str) -> tuple[int, int]:
        """Look for thoughts. Return how far `text` is arguments, and from where on it is to be read.

        What may still become their beginning is held.
        """
        at = 0
        if self._state == "begin":
            if (found := _BEGIN.match(text)) is not None:
                self._state = "thought"
                return 0, found.end()
            if _MAY_BEGIN.fullmatch(text):
                self._held = text
                return 0, len(text)
            self._first = False
            opened = _OBJECT.match(text)
            self._state = "rest" if opened is None else "others"
            at = 0 if opened is None else opened.end()
        while self._state in ("others", "next"):
            if self._state == "others":
                at = self._pass_over(text, at)
                if self._state == "others":
                    break
                continue
            if (found := _NEXT.match(text, at)) is not None:
                self._state = "thought"
                return at, found.end()
            if _MAY_BE_NEXT.fullmatch(text, at):
                self._held = text[at:]
                return at, len(text)
            self._state = "others"
            at += 1
        return at, at if self._state == "rest" else len(text)

    def _pass_over(self, text: str, at: int) -> int:
        """Pass over arguments and return the place of a comma between them, or where the text ends."""
        for mark in _MARKS.finditer(text, at):
            at = mark.end()
            match mark[0]:
                case '"':
                    self._quoted = not self._quoted
                case _ if self._quoted:
                    pass
                case "{" | "[":
                    self._depth += 1
                case "}" | "]":
                    self._depth -= 1
                    if self._depth == 0:
                        self._state = "rest"
                        return at
                case "," if self._depth == 1:
                    self._state = "next"
                    return mark.start()
                case _:
                    pass
        if at < len(text) and text.endswith("\\"):
            self._held = "\\"  # what it escapes comes next
            return len(text) - 1
        return len(text)

    def _after(self, text: str) -> str:
        """Return the arguments without the first one, once it is known how they go on."""
        text = text.lstrip()
        if text and self._state == "behind":
            if text[0] == ",":
                self._state = "comma"
                text = text[1:].lstrip()
            else:
                self._state = "rest"
                return "{" + text
        if not text:
            return ""
        self._state = "rest"
        return "{" + text

    def close(self) -> str:
        """Return what the arguments' end, which has come, adds to them."""
        cut = self._state in ("behind", "comma")
        self._state = "rest"
        held, self._held = self._held, ""
        return "{" if cut else held


def rejoined(content: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return a message's parts as its model wrote them: each thought back in the call that follows it.

    The last one, where no call follows it, goes back into the call before it: it came late.
    """
    if not any(isinstance(part, ReasoningPart) and part.source == "non_reasoner_model" for part in content):
        return content
    parts: list[Part] = []
    for part in content:
        before = parts[-1] if parts else None
        thought = isinstance(before, ReasoningPart) and before.source == "non_reasoner_model"
        if isinstance(part, ToolCallPart) and isinstance(before, ReasoningPart) and thought:
            parts[-1] = replace(part, arguments=_with_thought(part.arguments, before.reasoning))
        else:
            parts.append(part)
    match parts[-2:]:
        case [ToolCallPart() as call, ReasoningPart(reasoning=late, source="non_reasoner_model")]:
            parts[-2:] = [replace(call, arguments=_with_thought(call.arguments, late))]
        case _:
            pass
    return tuple(_said(part) for part in parts)


def _said(part: Part) -> Part:
    """A thought outside of any call was plain text."""
    if isinstance(part, ReasoningPart) and part.source == "non_reasoner_model":
        return TextPart(part.reasoning)
    return part


def _with_thought(arguments: str, thought: str) -> str:
    text = arguments.strip() or "{}"
    if not text.startswith("{"):
        return arguments
    rest = text[1:].lstrip()
    first = f'{{"{THINKING}": {json.dumps(thought, ensure_ascii=False)}'
    return first + (rest if rest.startswith("}") else f", {rest}")
