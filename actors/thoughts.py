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


_TOKENS = [r"\s*", r"\{", r"\s*", *f'"{THINKING}"', r"\s*", ":", r"\s*", '"']
_BEGIN = re.compile("".join(_TOKENS))
_MAY_BEGIN = _partial(_TOKENS)


class Splitter:
    """Takes the thoughts out of a call's arguments while their text arrives, wherever it is cut.

    Only a text in the first place is taken, where the schema puts it: nothing of the call is shown
    before its thoughts are over. Anything else stays an argument, and is left out when the tool runs.
    """

    __slots__ = ("_held", "_state", "_string")

    def __init__(self) -> None:
        self._state = "begin"  # begin, thought, behind (its text), comma (behind it), rest
        self._held = ""
        self._string = StringReader()

    def feed(self, text: str) -> tuple[str, str]:
        """Return what `text` adds to the thoughts, and to the arguments without them."""
        if self._state == "rest":
            return "", text
        thought = ""
        if self._state == "begin":
            self._held += text
            begun = _BEGIN.match(self._held)
            if begun is None:
                return "", "" if _MAY_BEGIN.fullmatch(self._held) else self._give_up()
            text, self._held = self._held[begun.end() :], ""
            self._state = "thought"
        if self._state == "thought":
            thought, end = self._string.feed(text)
            if end < 0:
                return thought, ""
            text = text[end:]
            self._state = "behind"
        return thought, self._after(text)

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

    def _give_up(self) -> str:
        self._state = "rest"
        held, self._held = self._held, ""
        return held

    def close(self) -> str:
        """Return what the arguments' end, which has come, adds to them."""
        cut = self._state in ("behind", "comma")
        return "{" if cut else self._give_up()


def rejoined(content: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return a message's parts as its model wrote them: each thought back in the call that follows it."""
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
