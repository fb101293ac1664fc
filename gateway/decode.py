"""From bytes to values, strictly: bodies, query strings and path parameters, with the place of each fault."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from actors.memory_paths import LABEL, LABEL_RULE, is_label
from gateway.errors import InvalidRequestError

T = TypeVar("T")

MAX_DEPTH = 100
MAX_PARAMETERS = 200
MAX_QUERY_BYTES = 64 * 1024

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Order = Literal["asc", "desc"]

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

# What may stand in a path, by the parameter's name.
PATH_PARAMETERS: dict[str, re.Pattern[str]] = {
    **{
        f"{prefix}_id": re.compile(f"{prefix}-{UUID4}")
        for prefix in ("agent", "archive", "block", "tool", "run", "step", "message", "passage")
    },
    "memory_id": re.compile(f"passage-{UUID4}"),
    "path_run_id": re.compile(f"run-{UUID4}"),
    "conversation_id": re.compile(f"default|(?:conv|agent)-{UUID4}"),
    "block_label": LABEL,
    "tool_name": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "page": re.compile(r"[a-z0-9_-]{1,64}"),
    "script": re.compile(r"[a-z0-9_-]{1,64}\.(?:js|d\.ts)"),
    "chat_id": re.compile(r"[^\x00-\x1f\x7f]{1,256}"),
}


def path_parameter(name: str, value: str) -> str:
    """Return `value` when it may stand for `name`.

    Raises:
        InvalidRequestError: It may not, for instance a malformed id.
    """
    if PATH_PARAMETERS[name].fullmatch(value) is None:
        raise InvalidRequestError(f"{name} is malformed: expected {_expected(name)}", param=f"/{name}")
    return value


def _expected(name: str) -> str:
    if name == "block_label":
        return LABEL_RULE
    if name == "tool_name":
        return "1 to 64 letters, digits, _ or -"
    if name == "page":
        return "the name of a page that /docs lists"
    if name == "script":
        return "the name of a file like wakeful.js"
    if name == "memory_id":
        return "passage-<uuid4>"
    if name == "chat_id":
        return "1 to 256 characters"
    if name == "conversation_id":
        return "'default', conv-<uuid4> or agent-<uuid4>"
    return f"{name.removeprefix('path_').removesuffix('_id')}-<uuid4>"


def label(value: str, *, param: str) -> str:
    """Return a block label that is safe as a key, an XML tag and a file name.

    Raises:
        InvalidRequestError: It has other characters, or is empty or too long.
    """
    if not is_label(value):
        raise InvalidRequestError(
            f"a block label must be {_expected('block_label')}, with no empty, '.' or '..' part", param=param
        )
    return value


# --- bodies ---------------------------------------------------------------------------------


def body(data: bytes, kind: type[T]) -> T:
    """Decode a JSON body as `kind`. Unknown fields are ignored; of duplicate keys the last wins.

    Raises:
        InvalidRequestError: It is not JSON, not UTF-8, nested deeper than `MAX_DEPTH`, holds a NUL or
            a lone surrogate, or has a value that `kind` does not allow; the text names the place.
    """
    _check_text(data)
    try:
        value: T = _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except msgspec.DecodeError as error:
        raise _malformed(data, error) from None
    if b"\\u0000" in data:
        _refuse_character(data)
    return value


# Escapes, a pair of backslashes being one of them, so that "\\u0000" is not taken for a NUL.
_ESCAPE = re.compile(rb"\\(?:u0000|.)", re.DOTALL)


def without_nul(data: bytes) -> bytes:
    """Return JSON without the NUL characters in it, which Postgres cannot store. Letta drops them, too."""
    if b"\\u0000" not in data:
        return data
    return _ESCAPE.sub(lambda found: b"" if found[0] == b"\\u0000" else found[0], data)


def convert(value: object, kind: type[T], *, param: str) -> T:
    """Check a part of a body that was decoded as plain JSON before. `param` points at it.

    Raises:
        InvalidRequestError: `kind` does not allow it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, path = _fault(error)
        pointer = f"{param}{_pointer(path)}"
        raise InvalidRequestError(f"{message} - at `{_path(pointer)}`", param=pointer) from None


@cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"the body is not valid UTF-8 (byte {error.start})", kind="invalid_json"
        ) from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(data)


# A string is skipped as one match, so that brackets inside it do not count.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _BRACKETS.finditer(data):
        found = match[0]
        if found in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequestError(
                    f"the body is nested deeper than {MAX_DEPTH} levels (byte {match.start()})",
                    kind="too_deep",
                )
        elif found in b"]}":
            depth -= 1


def _invalid(error: msgspec.ValidationError) -> InvalidRequestError:
    message, path = _fault(error)
    if not path:
        return InvalidRequestError(message)
    return InvalidRequestError(f"{message} - at `{path}`", param=_pointer(path))


def _fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what is wrong, and the path of where; empty for the whole."""
    message, _, place = str(error).partition(" - at `")
    return message, place.rstrip("`")


def _pointer(path: str) -> str:
    """Turn msgspec's `$.messages[0].role` into RFC 6901's `/messages/0/role`."""
    names = re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", path.removeprefix("key in ").removeprefix("$"))
    return "".join(f"/{name or index}" for name, index in names)


def _path(pointer: str) -> str:
    """Turn RFC 6901's `/messages/0/role` into `$.messages[0].role`, as msgspec writes places."""
    names = pointer.split("/")[1:]
    return "$" + "".join(f"[{name}]" if name.isdecimal() else f".{name}" for name in names)


def _malformed(data: bytes, error: msgspec.DecodeError) -> InvalidRequestError:
    if b"\\ud" in data or b"\\uD" in data:
        _refuse_character(data)
    if not data.strip():
        return InvalidRequestError("the body is empty; JSON was expected", kind="invalid_json")
    message = str(error)
    if message == "Input data was truncated":
        message = f"JSON is malformed: it ends too early (byte {len(data)})"
    return InvalidRequestError(message, kind="invalid_json")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_character(data: bytes) -> None:
    """Refuse a NUL or a lone surrogate, naming its field. Both are possible only as escapes."""
    try:
        value = json.loads(data, parse_int=str, parse_float=str)
    except ValueError:  # malformed besides: the caller reports that
        return
    for pointer, text in _strings(value, ""):
        if "\0" in text:
            raise InvalidRequestError("text must not contain NUL characters", param=pointer)
        if _SURROGATE.search(text):
            raise InvalidRequestError("text must not contain lone surrogates", param=pointer)


def _strings(value: object, pointer: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(pointer, value)]
    if isinstance(value, dict):
        found: list[tuple[str, str]] = []
        for key, item in cast("dict[str, object]", value).items():
            found.append((pointer, key))
            found.extend(_strings(item, f"{pointer}/{key}"))
        return found
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return [pair for i, item in items for pair in _strings(item, f"{pointer}/{i}")]
    return []


# --- query strings --------------------------------------------------------------------------


def query(raw: bytes, kind: type[T]) -> T:
    """Decode a query string as `kind`. Repeated keys fill list fields; elsewhere the last one wins.

    Instants without an offset are UTC; a bare date is its midnight.

    Raises:
        InvalidRequestError: A value is not what its field allows; the text names the parameter.
    """
    values: dict[str, Any] = {}
    plan = _plan(kind)
    for name, value in _pairs(raw) if raw else ():
        read = plan.get(name)
        if read is None:
            continue
        if read is _many:
            values.setdefault(name, []).append(value)
        else:
            values[name] = read(value)
    try:
        return msgspec.convert(values, kind, strict=False) if values else _defaults(kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


@cache
def _defaults(kind: type[Any]) -> Any:
    return msgspec.convert({}, kind)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    if len(raw) > MAX_QUERY_BYTES:
        raise InvalidRequestError(f"the query string is longer than {MAX_QUERY_BYTES} bytes")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise InvalidRequestError("the query string is malformed or has too many parameters") from None
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidRequestError("the query string must not contain NUL characters")
    return pairs


Read = Callable[[str], str]


@cache
def _plan(kind: type) -> dict[str, Read]:
    """Say for each parameter how its text is read before it is converted."""
    return {name: _read(hint) for name, hint in get_type_hints(kind).items()}


def _read(hint: object) -> Read:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if any(get_origin(kind) in (list, tuple) for kind in kinds):
        return _many
    return _instant if datetime in kinds else _plain


def _plain(value: str) -> str:
    return value


def _many(value: str) -> str:
    return value


_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_OFFSET = re.compile(r"(?:[zZ]|[+-]\d\d:?\d\d)$")


def _instant(value: str) -> str:
    if _DATE.fullmatch(value):
        return f"{value}T00:00:00Z"
    value = value.replace(" ", "+") if " " in value[19:] else value  # an unescaped + of an offset
    return value if _OFFSET.search(value) else f"{value}Z"
