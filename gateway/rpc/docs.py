"""The documentation's page of the websocket's methods, written from their Structs."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from gateway.rpc.method import Method

_HEAD = """\
# Methods of the websocket

What clients do over the websocket beside following channels: talk to agents, answer them, stop them, look
at them and edit their memory. This page is generated from `gateway/rpc`.

A command `{"id":…,"rpc":{"method":…,"data":{…}}}` is answered by `{"id":…,"rpc":{"data":{…}}}` or by
`{"id":…,"error":{"code":…,"message":…,"temporary":…}}`. Commands are answered when they are durable; what
comes of them arrives as events. Unknown fields are refused.

Every method may also answer with 103 or 403 (the token lacks the scope), 422 (the data is refused; the
text names the field), 503 (the server stops or its database is away; `temporary`) and 504 (it took too
long, and may still have taken effect).
"""


def page(methods: Sequence[Method]) -> str:
    """Return the page: each method with its data and errors, then the shapes they share."""
    told = {method.data for method in methods}
    kinds = {k: None for m in methods for top in (m.data, m.answer) for k in _inner(top) if k not in told}
    shapes = "\n".join(_shape(kind) for kind in sorted(kinds, key=lambda kind: kind.__name__))
    return f"{_HEAD}\n{''.join(_method(method) for method in methods)}# Shapes\n\n{shapes}"


def _method(method: Method) -> str:
    errors = "".join(f"- {error}\n" for error in method.errors)
    answer = method.answer
    known = f"`{answer.__name__}`, below" if _is_ours(answer) else f"{answer.__name__}, as REST answers it"
    return (
        f"## {method.name}\n\n{method.summary}. Needs the scope `{method.scope}`. Answers with {known}.\n\n"
        f"{_told(method.data)}\n\n{_table(method.data)}\n{errors}\n"
    )


def _shape(kind: type[Struct]) -> str:
    return f"## {kind.__name__}\n\n{_told(kind)}\n\n{_table(kind)}"


def _told(kind: type[Struct]) -> str:
    lines = (line.strip() for line in (kind.__doc__ or "").strip().splitlines())
    return "\n".join(lines)


def _table(kind: type[Struct]) -> str:
    rows = "".join(
        f"| `{field.encode_name}` | {_type(msgspec.inspect.type_info(field.type))} | {_default(field)} |\n"
        for field in msgspec.structs.fields(kind)
    )
    return f"| field | type | default |\n| --- | --- | --- |\n{rows}"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
        return "required"
    if field.default in (None, msgspec.UNSET, ()):
        return ""
    return f"`{msgspec.json.encode(field.default).decode()}`"


def _type(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.Metadata():
            return _type(kind.type)
        case msgspec.inspect.UnionType():
            names = dict.fromkeys(_type(t) for t in kind.types)
            return " or ".join(name for name in names if name not in ("nothing", "null")) or "null"
        case msgspec.inspect.LiteralType():
            return ", ".join(f"`{msgspec.json.encode(value).decode()}`" for value in kind.values)
        case msgspec.inspect.StructType():
            return _struct(kind.cls)
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            return f"list of {_type(kind.item_type)}"
        case msgspec.inspect.DictType() | msgspec.inspect.AnyType() | msgspec.inspect.RawType():
            return "JSON"
        case _:
            return _PLAIN[type(kind)]


_PLAIN: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.StrType: "text",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.BoolType: "`true` or `false`",
    msgspec.inspect.DateTimeType: "time",
    msgspec.inspect.NoneType: "null",
    msgspec.inspect.CustomType: "nothing",  # UNSET: the field is left out
}


def _struct(kind: type[Struct]) -> str:
    if _is_ours(kind):
        return f"`{kind.__name__}`"
    return "message of REST" if kind.__name__.endswith("Message") else "JSON"


def _is_ours(kind: type[Any]) -> bool:
    """Say whether a shape is one of the methods' own; others are documented with the routes."""
    return kind.__module__.startswith(("gateway.rpc", "gateway.interrupts"))


def _inner(shape: Any) -> Iterable[type[Struct]]:
    """Return the shapes that a shape is made of and that are the methods' own, itself first."""
    found: list[type[Struct]] = []
    if not _is_ours(shape):
        return found
    found.append(shape)
    for field in msgspec.structs.fields(cast("type[Struct]", shape)):
        for kind in _structs(msgspec.inspect.type_info(field.type)):
            found += _inner(kind)
    return found


def _structs(kind: msgspec.inspect.Type) -> list[type[Struct]]:
    match kind:
        case msgspec.inspect.StructType():
            return [kind.cls]
        case msgspec.inspect.Metadata():
            return _structs(kind.type)
        case msgspec.inspect.UnionType():
            return [one for inner in kind.types for one in _structs(inner)]
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            return _structs(kind.item_type)
        case _:
            return []
