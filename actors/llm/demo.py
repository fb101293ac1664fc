"""The model `demo/scripted`: no language model, but it thinks aloud, uses tools, remembers and streams."""

import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from actors import clock, summary
from actors.llm.demo_mind import MemoryBlock, Reply, ToolUse, View, reply, sum_up
from actors.llm.dialects import CHAT, Dialect
from actors.llm.loose import object_of, objects
from actors.llm.model import (
    Finished,
    ModelRef,
    Piece,
    ReasoningPiece,
    Request,
    Take,
    TextPiece,
    ToolCallPiece,
    UsageReported,
)
from actors.llm.openai_chat import short_call_id
from storage.records import JsonObject, ModelSettings, Usage

BYTES_PER_TOKEN = 4

DEMO = ModelRef(
    handle="demo/scripted",
    name="scripted",
    provider="demo",
    provider_type="demo",
    endpoint="",
    context_window_tokens=32_000,
    max_output_tokens=4_096,
    display_name="Scripted demo (no language model)",
)

# A block as the system prompt renders it: label, description, metadata and value, each in its own tags.
_BLOCK = re.compile(
    r"<(?P<label>[^<>\n]{1,200})>\s*(?:<description>.*?</description>\s*)?"
    r"<metadata>(?P<metadata>[^<]*)</metadata>\s*(?:<warning>.*?</warning>\s*)?"
    r"<value>\n?(?P<value>.*?)\n?</value>\s*</(?P=label)>",
    re.DOTALL,
)
_WORDS = re.compile(r"\S+\s*")
_SEARCH = "conversation_search"
_SPEAK = "send_message"


class DemoModel:
    """A `Model` that answers by rules from the request alone. `pace` is the pause after each word."""

    def __init__(self, pace: float = 0.01) -> None:
        self.ref = DEMO
        self._pace = pace

    def dialect(self, settings: ModelSettings) -> Dialect:  # noqa: ARG002 - the signature of models
        """Return the one dialect that it reads."""
        return CHAT

    async def stream(
        self,
        request: Request,
        take: Take | None = None,  # noqa: ARG002 - nothing arrives while the caller waits
    ) -> AsyncGenerator[list[Piece], None]:
        """Yield the reply word by word: a thought, then text or one tool call. It never fails."""
        view = read_view(request)
        leaving = summary.shown(view.said)
        answer = reply(view) if leaving is None else sum_up(*leaving)
        if request.tool_choice == "required" and _SPEAK in view.tools:
            answer = _as_call(answer)
        written = 0
        for pieces in _pieces(answer):
            yield pieces
            written += 1
            await clock.sleep(self._pace)
        read = sum(map(len, request.messages)) + len(request.tools or b"")
        prompt = read // BYTES_PER_TOKEN + 1
        usage = Usage(
            prompt=prompt, completion=written, total=prompt + written, context=prompt, estimated=True
        )
        yield [UsageReported(usage), Finished("tool_calls" if answer.tool else "stop")]


def read_view(request: Request) -> View:
    """Return what a request tells: memory from its system prompt, the last message, and what followed it."""
    messages = [_object(message) for message in _split(request.messages)]
    system = _text(messages[0].get("content")) if messages else ""
    last = max(
        (n for n, message in enumerate(messages) if n and _is_said(message)),
        default=0,
    )
    turn = messages[last + 1 :]
    names = {
        str(call.get("id")): str(object_of(call.get("function")).get("name"))
        for message in turn
        for call in objects(message.get("tool_calls"))
    }
    done = tuple(
        ToolUse(names.get(str(message.get("tool_call_id")), ""), _text(message.get("content")))
        for message in turn
        if message.get("role") == "tool"
    )
    found = tuple(text for use in done if use.name == _SEARCH for text in _found(use.result))
    return View(
        said=_text(messages[last].get("content")) if last else "",
        blocks=read_blocks(system),
        tools=frozenset(_tool_names(request.tools)),
        done=done,
        found=found,
    )


def _is_said(message: Mapping[str, Any]) -> bool:
    """Say whether somebody wrote this; a heartbeat only gives the model another turn."""
    heartbeat = _text(message.get("content")).startswith('{"type":"heartbeat"')
    return message.get("role") in ("user", "system") and not heartbeat


def _as_call(answer: Reply) -> Reply:
    """Return a reply as a model gives it that speaks by calls only."""
    thought: JsonObject = {"thinking": answer.thought}
    if answer.tool:
        return replace(
            answer, thought="", arguments=thought | dict(answer.arguments) | {"request_heartbeat": True}
        )
    return replace(answer, thought="", text="", tool=_SPEAK, arguments=thought | {"message": answer.text})


def read_blocks(system: str) -> tuple[MemoryBlock, ...]:
    """Return the memory blocks that a system prompt shows."""
    return tuple(
        MemoryBlock(block["label"], block["value"], "read_only=true" in block["metadata"])
        for block in _BLOCK.finditer(system)
    )


def _pieces(answer: Reply) -> Iterable[list[Piece]]:
    for word in _WORDS.findall(answer.thought):
        yield [ReasoningPiece(word)]
    if answer.tool:
        arguments = msgspec.json.encode(answer.arguments).decode()
        yield [ToolCallPiece(0, short_call_id(clock.new_id("call")), answer.tool, "")]
        for fragment in _WORDS.findall(arguments):
            yield [ToolCallPiece(0, "", "", fragment)]
    for word in _WORDS.findall(answer.text):
        yield [TextPiece(word)]


def _split(messages: Sequence[bytes]) -> Iterable[bytes]:
    """Yield single objects: the results of one tool message come joined by commas."""
    for message in messages:
        if message:
            yield from msgspec.json.decode(b"[%b]" % message, type=list[msgspec.Raw])


def _object(message: bytes) -> Mapping[str, Any]:
    return msgspec.json.decode(message, type=dict[str, Any])


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in objects(cast("object", content)))
    return content if isinstance(content, str) else ""


def _tool_names(tools: bytes | None) -> list[str]:
    offered = msgspec.json.decode(tools, type=list[dict[str, Any]]) if tools else []
    return [str(object_of(tool.get("function")).get("name")) for tool in offered]


def _found(result: str) -> list[str]:
    """Return what people said among the results of a search, whatever they are wrapped in."""
    try:
        value: object = msgspec.json.decode(result)
    except (ValueError, RecursionError):
        return [] if result.startswith("Error") else result.splitlines()
    return list(_contents(value))


def _contents(value: object) -> Iterable[str]:
    """Yield the `content` of every result that is not the agent's own, however deep it lies."""
    if isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _contents(item)
        return
    members = object_of(value)
    if "content" not in members:
        for member in members.values():
            yield from _contents(member)
    elif members.get("role") not in ("assistant", "tool", "system"):
        yield _text(members["content"])
