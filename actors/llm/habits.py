"""How one model is spoken to: by its provider's quirks, its server's word, a person's choice, our experience.

Pure. A model that refuses something is asked again without it, and not asked for it again in this process.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from actors.llm.dialects import Dialect
from actors.llm.known import quirks_of
from actors.llm.model import ModelRef
from storage.records import ModelSettings

# `native`: the provider's own tools. `json_schema`: the answer follows a schema of calls and replies.
# `prompt`: the same, where the server takes no schema and the model is only told.
ToolMode = Literal["native", "json_schema", "prompt"]
TOOL_MODES: tuple[str, ...] = get_args(ToolMode)

# Settings that a call can do without. The request for a longest answer changes its name instead.
DROPPABLE = frozenset(
    {
        "frequency_penalty",
        "include",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning.effort",
        "reasoning.summary",
        "reasoning_effort",
        "seed",
        "service_tier",
        "stream_options",
        "temperature",
        "top_logprobs",
        "top_p",
        "verbosity",
    }
)


class Preferences(Struct, frozen=True, kw_only=True):
    """What a person chose for whole groups of models, by patterns of handles such as `ollama/gemma*`."""

    json_tools: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()
    chat: tuple[str, ...] = ()


class Habits(Struct, frozen=True, kw_only=True):
    """How a model is spoken to. `without` names the settings that it is not sent."""

    tools: ToolMode = "native"
    images: bool = True
    responses: bool = False
    without: frozenset[str] = frozenset()


def first(ref: ModelRef, chosen: Preferences, *, responses: bool = True) -> Habits:
    """Return how a model is spoken to before anything was learned of it.

    `responses` says whether its provider may have that API; a person's choice counts more.
    """
    quirks = quirks_of(ref.provider_type)
    wants_responses = (
        responses and quirks.responses is not None and quirks.responses.match(ref.name) is not None
    )
    if _matches(ref.handle, chosen.chat):
        wants_responses = False
    elif _matches(ref.handle, chosen.responses):
        wants_responses = True
    text = ref.native_tools is False or (
        ref.native_tools is None and quirks.text_calls is not None and bool(quirks.text_calls.match(ref.name))
    )
    blind = quirks.blind is not None and quirks.blind.match(ref.name) is not None
    return Habits(
        tools="json_schema" if text or _matches(ref.handle, chosen.json_tools) else "native",
        images=(not blind) if ref.images is None else ref.images,
        responses=wants_responses,
    )


def chosen(habits: Habits, settings: ModelSettings) -> Habits:
    """Return the habits with what an agent's settings choose: `tool_mode`."""
    mode = settings.extra.get("tool_mode")
    match mode:
        case "native" | "json_schema" | "prompt":
            return habits if mode == habits.tools else replace(habits, tools=mode)
        case _:
            return habits


def dialect_of(ref: ModelRef, habits: Habits) -> Dialect:
    """Return the dialect in which a model with these habits is written to."""
    quirks = quirks_of(ref.provider_type)
    responses = habits.responses and habits.tools == "native"
    thoughts = quirks.thoughts if quirks.thoughts_of and quirks.thoughts_of.match(ref.name) else "none"
    if responses:
        thoughts = "encrypted"
    elif thoughts == "encrypted":
        thoughts = "none"  # chat completions have no place for it
    return Dialect(
        api="responses" if responses else "chat",
        thoughts=thoughts,
        signer="" if thoughts == "none" else ref.handle,
        calls="native" if habits.tools == "native" else "text",
        images=habits.images,
    )


def learn(habits: Habits, lacks: str, *, asked_tools: bool) -> Habits:
    """Return the habits after a refusal that named what the model lacks; the same if nothing helps."""
    match lacks:
        case "tools" if asked_tools and habits.tools == "native":
            return replace(habits, tools="json_schema")
        case "response_format" if habits.tools == "json_schema":
            return replace(habits, tools="prompt")
        case "images":
            return replace(habits, images=False)
        case "responses":
            return replace(habits, responses=False)
        case "reasoning_effort" if habits.responses:
            return replace(habits, without=habits.without | {"reasoning.effort"})
        case _ if lacks in DROPPABLE:
            return replace(habits, without=habits.without | {lacks})
        case _:
            return habits


def _matches(handle: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(handle, pattern) for pattern in patterns)
