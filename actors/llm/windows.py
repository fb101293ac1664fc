"""How much a model can read: what its server says, else what we know, else a cautious guess. Pure."""

import re
from collections.abc import Mapping
from typing import Literal, cast

from msgspec import Struct

from actors.llm.loose import object_of, objects

DEFAULT_WINDOW_TOKENS = 32_000
# Letta's bound on what it takes for granted; an agent may be given more.
WINDOW_CAP_TOKENS = 128_000
# What Ollama and LM Studio load a model with where nobody chose a length (docs.ollama.com/context-length,
# below 24 GiB of video memory). A longer prompt is cut by the server without a word.
LOADED_WINDOW_TOKENS = 4_096

Source = Literal["server", "table", "default"]


class Window(Struct, frozen=True):
    """A window, the longest answer where it is known, and who said so."""

    tokens: int
    answer_tokens: int | None
    source: Source


class Said(Struct, frozen=True, kw_only=True):
    """What a server says about one of its models; `None` is what it does not say."""

    window_tokens: int | None = None
    native_tools: bool | None = None
    images: bool | None = None
    chats: bool = True


# (window, longest answer) by the beginning of a model's name after any "vendor/"; the longest match counts.
# From the providers' model pages, November 2026; used only where a server does not say it itself.
_SIZES: dict[str, tuple[int, int | None]] = {
    "gpt-3.5-turbo": (16_385, 4_096),
    "gpt-4": (8_192, 8_192),
    "gpt-4-turbo": (128_000, 4_096),
    "gpt-4.1": (1_047_576, 32_768),
    "gpt-4o": (128_000, 16_384),
    "gpt-5": (400_000, 128_000),
    "gpt-oss": (131_072, 32_768),
    "o1": (200_000, 100_000),
    "o3": (200_000, 100_000),
    "o4-mini": (200_000, 100_000),
    "claude": (200_000, 8_192),
    "claude-3-haiku": (200_000, 4_096),
    "claude-haiku-4": (200_000, 64_000),
    "claude-sonnet-4": (200_000, 64_000),
    "claude-opus-4": (200_000, 32_000),
    "gemini": (1_048_576, 8_192),
    "gemini-2.5": (1_048_576, 65_536),
    "gemini-3": (1_048_576, 65_536),
    "gemma-2": (8_192, None),
    "gemma-3": (131_072, None),
    "deepseek": (128_000, 8_192),
    "mistral": (128_000, None),
    "ministral": (128_000, None),
    "magistral": (128_000, None),
    "codestral": (128_000, None),
    "devstral": (128_000, None),
    "grok": (131_072, None),
    "grok-4": (256_000, None),
    "kimi-k2": (131_072, None),
    "llama-3": (8_192, None),
    "llama-3.1": (131_072, None),
    "llama-3.2": (131_072, None),
    "llama-3.3": (131_072, None),
    "llama-4": (131_072, None),
    "phi-3": (4_096, None),
    "phi-4": (16_384, None),
    "qwen2.5": (32_768, None),
    "qwen3": (40_960, None),
    "smollm2": (8_192, None),
}

_WINDOW_FIELDS = (
    "loaded_context_length",  # LM Studio
    "max_model_len",  # vLLM, SGLang
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # Mistral
    "inputTokenLimit",  # Google
)
_CONTEXT_PARAMETER = re.compile(r"^\s*num_ctx\s+(\d+)", re.MULTILINE)


def known_size(name: str) -> tuple[int | None, int | None]:
    """Return (window, longest answer) in tokens as far as the model's name tells."""
    bare = name.rpartition("/")[2].lower().removeprefix("meta-")
    matches = [prefix for prefix in _SIZES if bare.startswith(prefix)]
    return _SIZES[max(matches, key=len)] if matches else (None, None)


def window(name: str, said_tokens: int | None) -> Window:
    """Return the window of a model: what its server says beats what its name tells."""
    known, answer = known_size(name)
    source: Source = "server" if said_tokens else "table" if known else "default"
    tokens = min(said_tokens or known or DEFAULT_WINDOW_TOKENS, WINDOW_CAP_TOKENS)
    if answer is not None and answer >= tokens:
        answer = None  # a small window of a model that is known for long answers
    return Window(tokens, answer, source)


def listed(entry: Mapping[str, object]) -> Said:
    """Read an entry of `GET /models`, whichever server wrote it."""
    meta = object_of(entry.get("meta"))  # llama.cpp
    tokens = next(
        (
            count
            for count in (
                *(_count(entry.get(field)) for field in _WINDOW_FIELDS),
                _count(meta.get("n_ctx_train")),
            )
            if count
        ),
        None,
    )
    modalities = object_of(entry.get("architecture")).get("input_modalities")  # OpenRouter
    parameters = entry.get("supported_parameters")
    abilities = object_of(entry.get("capabilities"))  # Mistral
    return Said(
        window_tokens=tokens,
        native_tools=_has(parameters, "tools") if parameters else _flag(abilities.get("function_calling")),
        images=_has(modalities, "image") if modalities else _flag(abilities.get("vision")),
        chats=abilities.get("completion_chat") is not False,
    )


def ollama(show: Mapping[str, object], loaded_tokens: int | None) -> Said:
    """Read Ollama's `/api/show` of one model, and what `/api/ps` says that it is loaded with.

    The trained length is only a bound: what counts is the length that the server loads the model with.
    """
    parameters = show.get("parameters")
    chosen = _CONTEXT_PARAMETER.search(parameters) if isinstance(parameters, str) else None
    info = object_of(show.get("model_info"))
    trained = next((_count(value) for key, value in info.items() if key.endswith(".context_length")), None)
    tokens = loaded_tokens or (int(chosen[1]) if chosen else None) or LOADED_WINDOW_TOKENS
    abilities = show.get("capabilities")
    return Said(
        window_tokens=min(tokens, trained) if trained else tokens,
        native_tools=_has(abilities, "tools") if abilities else None,
        images=_has(abilities, "vision") if abilities else None,
        chats=not abilities or _has(abilities, "completion"),
    )


def ollama_loaded(answer: object) -> dict[str, int]:
    """Read Ollama's `/api/ps`: the length that each loaded model was given."""
    found: dict[str, int] = {}
    for model in objects(object_of(answer).get("models")):
        name, tokens = model.get("name"), _count(model.get("context_length"))
        if isinstance(name, str) and tokens:
            found[name] = tokens
    return found


def lmstudio(entry: Mapping[str, object]) -> Said:
    """Read an entry of LM Studio's `/api/v0/models`."""
    longest = _count(entry.get("max_context_length"))
    loaded = _count(entry.get("loaded_context_length"))
    abilities = entry.get("capabilities")
    return Said(
        window_tokens=loaded or (min(longest, LOADED_WINDOW_TOKENS) if longest else None),
        native_tools=True if _has(abilities, "tool_use") else None,
        images=entry.get("type") == "vlm" if entry.get("type") in ("llm", "vlm") else None,
        chats=entry.get("type") != "embeddings",
    )


def llamacpp(props: object) -> Said:
    """Read llama.cpp's `/props`: the length of one slot, and whether a projector for images is loaded."""
    answer = object_of(props)
    settings = object_of(answer.get("default_generation_settings"))
    return Said(
        window_tokens=_count(settings.get("n_ctx")) or _count(answer.get("n_ctx")),
        images=_flag(object_of(answer.get("modalities")).get("vision")),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _has(value: object, word: str) -> bool:
    return word in cast("list[object]", value) if isinstance(value, list) else False
