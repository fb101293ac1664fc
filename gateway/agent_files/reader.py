"""Reads agent files, ours and Letta's: what to create, and what cannot be taken over. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, Struct

from gateway import decode
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.requests.agents import CreateAgent
from storage.records import (
    ImagePart,
    JsonObject,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

FILE_BYTES = 64 * 1024 * 1024  # of a file, with the form it comes in
MAX_AGENTS = 100
MAX_MESSAGES = 20_000
COPY_SUFFIX = "_copy"

# What an agent is created with, by the same names in file and request.
_TAKEN = (
    "agent_type",
    "system",
    "tool_rules",
    "tags",
    "description",
    "metadata",
    "llm_config",
    "model",
    "model_settings",
    "embedding",
    "embedding_config",
    "compaction_settings",
    "context_window_limit",
    "response_format",
    "parallel_tool_calls",
    "timezone",
    "message_buffer_autoclear",
    "max_files_open",
    "per_file_view_window_char_limit",
    "hidden",
)
# What may be in a file and has no counterpart here.
_LEFT = ("source_ids", "folder_ids", "files_agents", "group_ids", "identity_ids", "enable_sleeptime")
_ROLES: Mapping[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
    "approval": "assistant",
    "summary": "summary",
}


class Function(Struct, frozen=True):
    """What a call asks for."""

    name: str | None = None
    arguments: str | None = None


class Call(Struct, frozen=True):
    """A call in a message of a file."""

    id: str | None = None
    function: Function | None = None


class Return(Struct, frozen=True):
    """A result in a message of a file."""

    tool_call_id: str | None = None
    status: str | None = None
    func_response: Any = None


class Line(Struct, frozen=True, kw_only=True):
    """A message of a file."""

    id: str = ""
    role: str = ""
    content: str | tuple[JsonObject, ...] | None = None
    name: str | None = None
    tool_calls: tuple[Call, ...] | None = None
    tool_call_id: str | None = None
    tool_returns: tuple[Return, ...] | None = None
    created_at: str | None = None


class Links(Struct, frozen=True, kw_only=True):
    """What an agent of a file holds beside its settings."""

    name: str | None = None
    tools: tuple[str, ...] | None = None
    tool_ids: tuple[str, ...] | None = None
    block_ids: tuple[str, ...] | None = None
    memory_blocks: tuple[JsonObject, ...] | None = None
    messages: tuple[Line, ...] | None = None
    in_context_message_ids: tuple[str, ...] | None = None
    secrets: JsonObject | None = None
    tool_exec_environment_variables: JsonObject | tuple[JsonObject, ...] | None = None


class Named(Struct, frozen=True):
    """A tool of a file, as far as it is looked at here."""

    id: str
    name: str | None = None


class File(Struct, frozen=True, kw_only=True):
    """An agent file as it was sent. Without `agents` it is of a format that is no longer read."""

    agents: Annotated[tuple[JsonObject, ...], Meta(max_length=MAX_AGENTS)] | None = None
    blocks: tuple[JsonObject, ...] = ()
    tools: tuple[Named, ...] = ()


class Said(Struct, frozen=True):
    """A message of a file that is no system prompt."""

    role: Role
    content: tuple[Part, ...]
    created_at: datetime
    name: str | None = None


class Read(Struct, frozen=True):
    """An agent to create, its messages in their order, and what had to be left out, in words."""

    request: CreateAgent
    messages: tuple[Said, ...]
    left_out: tuple[str, ...]


class Overrides(Struct, frozen=True, kw_only=True):
    """What the caller wants other than in the file."""

    name: str | None = None
    model: str | None = None
    embedding: str | None = None
    append_copy_suffix: bool = True
    strip_messages: bool = False


def _decoded(data: bytes) -> File:
    try:
        return decode.body(data, File)
    except InvalidRequestError as error:
        text = f"this is no agent file: {error}"
        if error.kind == "invalid_json":
            raise BadArgumentError(text, param="/file") from None
        raise InvalidRequestError(text, param=f"/file{error.param or ''}", kind=error.kind) from None


def read(data: bytes, *, known_tools: frozenset[str], overrides: Overrides, now: datetime) -> list[Read]:
    """Return the agents of a file. Tools are taken by name where `known_tools` has them.

    Raises:
        InvalidRequestError: A field has a value that is not allowed.
        BadArgumentError: It is no JSON, or has no agents.
    """
    file = _decoded(data)
    if file.agents is None:
        raise BadArgumentError("this is no agent file: it has no list `agents`", param="/file")
    blocks = {str(block.get("id")): block for block in file.blocks}
    tools = {tool.id: tool.name or tool.id for tool in file.tools}
    made: list[Read] = []
    for place, entry in enumerate(file.agents):
        links = decode.convert(entry, Links, param=f"/file/agents/{place}")
        wanted = tuple(dict.fromkeys([*(links.tools or ()), *_named(links.tool_ids, tools)]))
        body = _body(entry, links, blocks, overrides)
        body["tools"] = [name for name in wanted if name in known_tools]
        request = decode.convert(body, CreateAgent, param=f"/file/agents/{place}")
        seen = () if overrides.strip_messages else _messages(links, now)
        left = [f"tool {name}" for name in wanted if name not in known_tools]
        left += [name for name in _LEFT if entry.get(name)]
        left += [f"secret {name}" for name in _secret_names(links)]
        made.append(Read(request, seen, tuple(left)))
    return made


def _body(
    entry: JsonObject, links: Links, blocks: Mapping[str, JsonObject], overrides: Overrides
) -> JsonObject:
    """Return the request that would create an agent like this one."""
    held = [blocks[id_] for id_ in links.block_ids or () if id_ in blocks]
    body: JsonObject = {name: entry[name] for name in _TAKEN if entry.get(name) is not None}
    body |= {
        "name": overrides.name or _copied(links.name, overrides),
        "memory_blocks": [*held, *(links.memory_blocks or ())],
        "include_base_tools": False,
    }
    if overrides.model is not None:
        body["model"] = overrides.model
        body.pop("compaction_settings", None)  # it names a model of the other server's
    if overrides.embedding is not None:
        body["embedding"] = overrides.embedding
        body.pop("embedding_config", None)
    return body


def _copied(name: str | None, overrides: Overrides) -> str | None:
    return f"{name}{COPY_SUFFIX}" if name is not None and overrides.append_copy_suffix else name


def _named(ids: tuple[str, ...] | None, names: Mapping[str, str]) -> Iterable[str]:
    return [names[id_] for id_ in ids or () if id_ in names]


def _secret_names(links: Links) -> list[str]:
    names: dict[str, None] = {}
    for given in (links.secrets, links.tool_exec_environment_variables):
        if isinstance(given, tuple):
            names |= dict.fromkeys(str(one.get("key")) for one in given)
        else:
            names |= dict.fromkeys(given or {})
    return list(names)


# --- messages -------------------------------------------------------------------------------


def _messages(links: Links, now: datetime) -> tuple[Said, ...]:
    """Return the messages that the agent's model saw, in that order, without system prompts."""
    by_id = {line.id: line for line in links.messages or ()}
    calls: dict[str, str] = {}
    seen = links.in_context_message_ids or tuple(by_id)
    found = (said(by_id[id_], calls, now) for id_ in seen[:MAX_MESSAGES] if id_ in by_id)
    return tuple(message for message in found if message is not None and message.content)


def said(line: Line, calls: dict[str, str], now: datetime) -> Said | None:
    """Return a message, None where it is none of a conversation; `calls` remembers who was called."""
    role = _ROLES.get(line.role)
    if role is None:
        return None
    if role == "tool":
        content: tuple[Part, ...] = tuple(_returns(line, calls))
    else:
        asked = tuple(_calls(line))
        calls.update({call.id: call.name for call in asked})
        content = (*_parts(line, packed=role in ("user", "summary")), *asked)
    return Said(role, content, _instant(line.created_at, now), line.name if role == "user" else None)


def _parts(line: Line, *, packed: bool) -> Iterable[Part]:
    content = line.content
    if isinstance(content, str):
        content = ({"type": "text", "text": content},)
    for part in content or ():
        match part:
            case {"type": "text", "text": str(text)} if text:
                yield TextPart(_unpacked(text) if packed else text)
            case {"type": "reasoning", "reasoning": str(thought)} if thought:
                yield ReasoningPart(thought)
            case {"type": "image", "source": {**source}}:
                yield ImagePart(cast("JsonObject", source))
            case _:
                pass  # thoughts that were hidden, calls that stand elsewhere in the message as well


def _calls(line: Line) -> Iterable[ToolCallPart]:
    for call in line.tool_calls or ():
        if call.id and call.function is not None and call.function.name:
            yield ToolCallPart(call.id, call.function.name, call.function.arguments or "")


def _returns(line: Line, calls: Mapping[str, str]) -> Iterable[ToolReturnPart]:
    for one in line.tool_returns or (Return(line.tool_call_id, "success"),):
        call_id = one.tool_call_id or line.tool_call_id
        if call_id is None:
            continue
        text, images = one.func_response, list[ImagePart]()
        if text is None:
            text = "\n".join(p.text for p in _parts(line, packed=False) if isinstance(p, TextPart))
        elif isinstance(text, list):
            parts = list(_parts(Line(content=tuple(cast("list[JsonObject]", text))), packed=False))
            text = "\n".join(p.text for p in parts if isinstance(p, TextPart))
            images = [p for p in parts if isinstance(p, ImagePart)]
        name = calls.get(call_id) or line.name or "unknown"
        status = "error" if one.status == "error" else "success"
        shown = tuple(images) or UNSET
        yield ToolReturnPart(call_id, name, status, _unpacked(str(text)), images=shown)


def _unpacked(text: str) -> str:
    """Return the words in one of the JSON envelopes that Letta stores texts in, else the text."""
    if not text.startswith("{"):
        return text
    try:
        envelope = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError:
        return text
    inner = envelope.get("message")
    return inner if isinstance(inner, str) and ("type" in envelope or "status" in envelope) else text


def _instant(given: str | None, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(given or "")
    except ValueError:
        return now
    return at if at.tzinfo else at.replace(tzinfo=UTC)
