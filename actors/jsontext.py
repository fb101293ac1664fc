"""Reads JSON text before it is complete, or piece by piece: strings, and members of an object. Pure."""

import json
import re

MAX_CHARS = 1_000_000  # more is not taken apart; no tool takes such arguments

_PLAIN = re.compile(r'[^"\\]*')
_OTHER = re.compile(r'[^"\[\]{},]*')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LOST = "\ufffd"


class StringReader:
    """Decodes one JSON string whose opening quote has been read, wherever its text is cut.

    Lone surrogates and NUL become U+FFFD; an escape that does not exist stands for its last character.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""  # an escape that is not complete yet

    def feed(self, text: str, start: int = 0) -> tuple[str, int]:
        """Return what `text[start:]` adds, and the place behind the closing quote: -1 until it comes."""
        chunk = self._held + text[start:]
        offset = start - len(self._held)
        self._held = ""
        out: list[str] = []
        at = 0
        while True:
            run = _PLAIN.match(chunk, at)
            assert run is not None
            out.append(run[0])
            at = run.end()
            if at == len(chunk):
                return "".join(out), -1
            if chunk[at] == '"':
                return "".join(out), at + 1 + offset
            read = _unescape(chunk, at)
            if read is None:
                self._held = chunk[at:]
                return "".join(out), -1
            out.append(read[0])
            at = read[1]


def _unescape(text: str, at: int) -> tuple[str, int] | None:
    """Return the character of the escape at `at` and the place behind it; None while more is needed."""
    kind = text[at + 1 : at + 2]
    if not kind:
        return None
    if kind != "u":
        return _ESCAPES.get(kind, kind), at + 2
    if len(text) < at + 6:
        return None
    code = _code(text, at)
    if code is None:
        return "u", at + 2
    if not 0xD800 <= code < 0xDC00:
        return (_LOST if code == 0 or 0xDC00 <= code < 0xE000 else chr(code)), at + 6
    following = text[at + 6 : at + 12]
    if len(following) < 6 and "\\u".startswith(following[:2]):
        return None
    low = _code(text, at + 6) if following.startswith("\\u") else None
    if low is None or not 0xDC00 <= low < 0xE000:
        return _LOST, at + 6
    return chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00), at + 12


def _code(text: str, at: int) -> int | None:
    digits = text[at + 2 : at + 6]
    return int(digits, 16) if re.fullmatch(r"[0-9a-fA-F]{4}", digits) else None


class MemberReader:
    """Decodes one string member of a JSON object while the object's text arrives.

    `found` says that the member began. What follows the member, or is no object, is passed over.
    """

    __slots__ = ("_depth", "_key", "_name", "_string", "_then", "found")

    def __init__(self, name: str) -> None:
        self.found = False
        self._name = name
        self._key = ""
        self._depth = 0
        self._string: StringReader | None = None
        self._then = "open"  # what is expected: open, key, colon, value, rest (of a value), nothing

    def feed(self, text: str) -> str:
        """Return what `text` adds to the member's value."""
        added: list[str] = []
        at = 0
        while at < len(text) and self._then != "nothing":
            if self._string is not None:
                at = self._in_string(text, at, added)
            elif self._then == "rest":
                at = self._in_rest(text, at)
            else:
                at = self._between(text, at)
        return "".join(added)

    def _in_string(self, text: str, at: int, added: list[str]) -> int:
        assert self._string is not None
        decoded, end = self._string.feed(text, at)
        if self._then == "key":
            self._key += decoded
        elif self._then == "value":
            added.append(decoded)
        if end < 0:
            return len(text)
        self._string = None
        if self._then == "key":
            self._then = "colon"
        elif self._then == "value":
            self._then = "nothing"
        return end

    def _in_rest(self, text: str, at: int) -> int:
        """Pass over a value, with what is nested in it, up to the comma or brace behind it."""
        run = _OTHER.match(text, at)
        assert run is not None
        at = run.end()
        if at == len(text):
            return at
        match text[at]:
            case '"':
                self._string = StringReader()
            case "{" | "[":
                self._depth += 1
            case "}" | "]" if self._depth > 0:
                self._depth -= 1
            case "}" | "]":
                self._then = "nothing"
            case _ if self._depth == 0:
                self._then, self._key = "key", ""
            case _:
                pass  # a comma within
        return at + 1

    def _between(self, text: str, at: int) -> int:
        mark = text[at]
        if mark.isspace():
            return at + 1
        match self._then, mark:
            case "open", "{":
                self._then = "key"
            case "key", '"':
                self._string = StringReader()
            case "colon", ":":
                self._then = "value"
            case "value", '"' if self._key == self._name:
                self._string = StringReader()
                self.found = True
            case "value", _:
                self._then = "rest"
                return at
            case _:
                self._then = "nothing"
        return at + 1


def members(text: str) -> list[tuple[str, str]] | None:
    """Return the members of a JSON object in order, repeats included: name, and the member as written.

    Of several objects in a row the first counts. None where `text` is no object, or is too long.
    """
    if len(text) > MAX_CHARS:
        return None
    try:
        return _members(text)
    except (ValueError, IndexError, RecursionError):
        return None


_DECODER = json.JSONDecoder(strict=False)


def _members(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = _expect(text, 0, "{")
    if text[_skip(text, at)] == "}":
        return _checked(text, _skip(text, at) + 1, found)
    while True:
        begin = _skip(text, at)
        name, at = _DECODER.raw_decode(text, begin)
        if not isinstance(name, str):
            raise ValueError("a member has no name")
        at = _expect(text, at, ":")
        _, at = _DECODER.raw_decode(text, _skip(text, at))
        found.append((name, text[begin:at]))
        at = _skip(text, at)
        if text[at] == "}":
            return _checked(text, at + 1, found)
        at = _expect(text, at, ",")


def _checked(text: str, end: int, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    rest = text[end:].lstrip()
    if rest and not rest.startswith("{"):
        raise ValueError("something follows the object")
    return found


def _skip(text: str, at: int) -> int:
    while text[at].isspace():
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at] != mark:
        raise ValueError(f"expected {mark}")
    return at + 1


def joined(found: list[tuple[str, str]]) -> str:
    """Return members as the text of an object."""
    return "{" + ", ".join(text for _, text in found) + "}"


def member(name: str, value: object) -> tuple[str, str]:
    """Return a member as `members` does. Halves of surrogate pairs are never in `value`."""
    return name, f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
