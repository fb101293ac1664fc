"""Reads tool calls that a model wrote as text, while the text arrives. Pure.

Text is held back only as long as it could still be a call. What is no call is ordinary text.
"""

import json
import re
from typing import Any, cast

from actors.llm.model import Piece, ToolCallPiece
from actors.llm.openai_chat import mend
from actors.llm.stray_calls import (
    CALL_KEYS,
    FIRST_KEY,
    NAME_VALUE,
    as_text,
    behind_marks,
    find_calls,
    fresh_id,
    given,
    may_open,
    unwrapped,
)
from actors.llm.text_calls import Offer

# Calls whose arguments people read as they arrive, and that are therefore never taken back.
LIVE_TOOLS = frozenset({"send_message"})
# Text that may follow the object before we stop reading: weak models run on.
TRAILING_CHARS = 200

_REPLY = re.compile(r'\{\s*"reply"\s*:\s*(?=\S)')
_LIVE = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"arguments"\s*:\s*(?=\{)')
_STRUCTURE = re.compile(r'["\[\]{},]')
_IN_STRING = re.compile(r'["\\]')
_LONE_HIGH = r"[dD][89abAB][0-9a-fA-F]{2}"
# As much of a JSON string as cannot change its meaning by what follows.
_SETTLED = re.compile(
    r'(?:[^"\\]++|\\["\\/bfnrt]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}'
    rf"|\\u{_LONE_HIGH}\\u[dD][c-fC-F][0-9a-fA-F]{{2}}"
    rf"|\\u{_LONE_HIGH}(?=[^\\]|\\[^u]|\\u(?![dD][c-fC-F])[0-9a-fA-F]{{4}}))*"
)


class OfferedReader:
    """Reads the answer of a model that was told to answer with one JSON object.

    A reply streams as it arrives, and so do the arguments of a call that people read (`LIVE_TOOLS`);
    other calls are given out whole. An answer of another shape is text, as it stands, and then `settled`.
    `called` says that there was a call, `cut` that one was begun and nothing of it given out, and `over`
    that the object is long complete and the model runs on.
    """

    def __init__(self, offer: Offer) -> None:
        self.called = False
        self.cut = False
        self.over = False
        self.settled = False
        self._offer = offer
        # What a call lacks is told to the model as the result of that call.
        self._tools = dict.fromkeys(offer.tools, frozenset[str]())
        self._held = ""
        self._parts: list[str] = []  # of a call that is given out whole
        self._state = self._begin
        self._scan = _Scan()
        self._trailing = 0

    def feed(self, text: str) -> list[Piece]:
        """Return what these words settle."""
        return self._state(text)

    def close(self) -> list[Piece]:
        """Return what was held back, at the end of the answer."""
        held = self._held + "".join(self._parts)
        self._held, self._parts = "", []
        if not held.strip():
            return []
        if self._state == self._reply_text:
            return as_text(_unescaped(held))
        if self._state == self._reply_value:
            return as_text(held)
        if (calls := find_calls(held, self._tools)) is not None:
            self.called = True
            return given(calls)
        reply = _reply_of(held)
        if reply is not None:
            return as_text(reply)
        begun = _begun_name(held)
        if begun in self._offer.tools:
            self.cut = self.called = True
            return [ToolCallPiece(0, fresh_id(), begun, _begun_arguments(held))]
        return as_text(held)

    # --- states: each takes the next words ---------------------------------------------------------

    def _begin(self, text: str) -> list[Piece]:
        held = self._held = self._held + text
        rest = behind_marks(held)
        if not rest or may_open(held):
            return []
        if not rest.startswith("{"):
            return self._to(self._prose, held)
        if (reply := _REPLY.match(rest)) is not None and self._offer.reply:
            value = rest[reply.end() :]
            if value.startswith('"'):
                return self._to(self._reply_text, value[1:])
            return self._to(self._reply_value, value)
        if (live := _LIVE.match(rest)) is not None and live[1] in self._offer.tools and live[1] in LIVE_TOOLS:
            self.called = True
            opening: list[Piece] = [ToolCallPiece(0, fresh_id(), live[1], "")]
            return opening + self._to(self._arguments, rest[live.end() :])
        if not self._may_become(rest):
            return self._to(self._prose, held)
        if (name := NAME_VALUE.match(rest)) is not None and name[2] and name[1] not in LIVE_TOOLS:
            return self._to(self._whole_call if name[1] in self._offer.tools else self._prose, held)
        return []

    def _may_become(self, rest: str) -> bool:
        """Whether text that begins with a brace may be an answer as it was asked for."""
        if (key := FIRST_KEY.match(rest)) is None:
            return not rest[1:].strip()
        words = CALL_KEYS | {"reply"}
        return key[1] in words if key[2] else any(word.startswith(key[1]) for word in words)

    def _whole_call(self, text: str) -> list[Piece]:
        self._parts.append(text)
        return []

    def _prose(self, text: str) -> list[Piece]:
        self.settled = True
        return as_text(text)

    def _reply_text(self, text: str) -> list[Piece]:
        held = self._held + text
        end = cast("re.Match[str]", _SETTLED.match(held)).end()
        self._held = held[end:]
        pieces = as_text(_unescaped(held[:end]))
        if self._held.startswith('"'):
            rest, self._held = self._held[1:], ""
            pieces += self._to(self._after, rest)
        return pieces

    def _reply_value(self, text: str) -> list[Piece]:
        end = self._scan.feed(text)
        if end is None:
            return as_text(text)
        return as_text(text[:end]) + self._to(self._after, text[end:])

    def _arguments(self, text: str) -> list[Piece]:
        end = self._scan.feed(text)
        fragment = text if end is None else text[:end]
        pieces: list[Piece] = [ToolCallPiece(0, "", "", mend(fragment))] if fragment else []
        return pieces if end is None else pieces + self._to(self._after, text[end:])

    def _after(self, text: str) -> list[Piece]:
        """Whatever follows the object is nobody's business; too much of it ends the answer."""
        self._trailing += len(text)
        self.over = self._trailing > TRAILING_CHARS
        return []

    def _to(self, state: Any, text: str) -> list[Piece]:
        self._held = ""
        self._state = state
        return state(text) if text else []


class _Scan:
    """Finds the end of a JSON object or value that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, text: str) -> int | None:
        """Return where in `text` the value ends, or `None`."""
        at = 0
        while at < len(text):
            if self._quoted:
                at = self._in_string(text, at)
                continue
            mark = _STRUCTURE.search(text, at)
            if mark is None:
                return None
            if (end := self._at_mark(mark[0], mark.start())) is not None:
                return end
            at = mark.end()
        return None

    def _in_string(self, text: str, at: int) -> int:
        """Pass over a string; return where it ends, or the end of `text`."""
        if self._escaped:
            self._escaped = False
            return at + 1
        mark = _IN_STRING.search(text, at)
        if mark is None:
            return len(text)
        self._escaped = mark[0] == "\\"
        self._quoted = self._escaped
        return mark.end()

    def _at_mark(self, mark: str, place: int) -> int | None:
        """Take a mark outside of strings; return where the value ends, if it does there."""
        match mark:
            case '"':
                self._quoted = True
            case "{" | "[":
                self._depth += 1
            case "}" | "]" if self._depth > 1:
                self._depth -= 1
            case "}" | "]":
                self._depth -= 1
                return place + 1 if self._depth == 0 else place
            case _ if self._depth == 0:
                return place
            case _:
                pass
        return None


def _reply_of(text: str) -> str | None:
    """Return the reply of a complete object that was not recognised on the way, or `None`."""
    try:
        value: object = json.loads(unwrapped(text.strip()), strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or list(cast("dict[str, object]", value)) != ["reply"]:
        return None
    reply = cast("dict[str, object]", value)["reply"]
    return mend(reply) if isinstance(reply, str) else mend(json.dumps(reply, ensure_ascii=False))


def _begun_name(text: str) -> str:
    found = NAME_VALUE.search(text)
    return found[1] if found is not None and found[2] else ""


def _begun_arguments(text: str) -> str:
    _, _, arguments = text.partition('"arguments"')
    return mend(arguments.lstrip().removeprefix(":").strip())


def _unescaped(raw: str) -> str:
    """Return a fragment of a JSON string as the text it means; what is cut off in an escape is dropped."""
    if "\\" not in raw:
        return mend(raw)
    settled = cast("re.Match[str]", _SETTLED.match(raw)).end()
    return mend(cast("str", json.loads(f'"{raw[:settled]}"', strict=False)))
