"""Shows models, and how an agent calls its model, as Letta's clients expect them. Pure."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from actors.agent_types import type_of
from actors.llm.model import ModelRef
from actors.llm.openai_embeddings import LOCAL, EmbeddingRef, known_dimensions
from storage.records import AgentSettings, JsonObject, ModelSettings

DEFAULT_OUTPUT_TOKENS = 4096
# What is shown where nothing was chosen, as Letta shows it; the provider is sent nothing then.
DEFAULT_EFFORT = "minimal"
DEFAULT_TEMPERATURE = 1.0

# Typed clients reject names outside of these lists. A provider that has none is shown as `openai`, whose
# dialect it is spoken to in; the handle and `provider_name` still say which it is.
_SETTINGS_TYPES = frozenset(
    {
        "anthropic",
        "azure",
        "deepseek",
        "google_ai",
        "groq",
        "openai",
        "openrouter",
        "together",
        "xai",
    }
)
_PROVIDER_TYPES = _SETTINGS_TYPES | {"lmstudio_openai", "mistral", "ollama", "vllm"}
_ENDPOINT_TYPES = _SETTINGS_TYPES | {"llamacpp", "lmstudio", "mistral", "ollama", "vllm"}

# Endpoint types of embedding models that typed clients accept; the local model's own is `hugging-face`.
_EMBEDDING_TYPES = frozenset(
    {"azure", "google_ai", "groq", "llamacpp", "lmstudio", "mistral", "ollama", "openai", "together", "vllm"}
)


class LLMConfig(Struct, frozen=True, kw_only=True):
    """How a model is reached and called, in the form that older clients read."""

    model: str
    handle: str
    display_name: str
    model_endpoint_type: str
    model_endpoint: str | None
    provider_name: str
    context_window: int
    temperature: float = 1.0
    max_tokens: int | None = None
    parallel_tool_calls: bool = True
    response_format: JsonObject | None = None
    strict: bool = False
    reasoning_effort: str | None = None
    provider_category: str = "base"
    model_wrapper: str | None = None
    put_inner_thoughts_in_kwargs: bool = False
    enable_reasoner: bool = True
    max_reasoning_tokens: int = 0
    effort: str | None = None
    frequency_penalty: float | None = None
    compatibility_type: str | None = None
    verbosity: str | None = None
    tier: str | None = None
    return_logprobs: bool = False
    top_logprobs: int | None = None
    return_token_ids: bool = False
    tool_call_parser: str | None = None


class LettaModel(LLMConfig, frozen=True, kw_only=True):
    """A model that agents can use; the fields of `LLMConfig` repeat it for older clients."""

    name: str
    provider_type: str
    max_context_window: int
    model_type: str = "llm"
    context_window_source: str = "table"  # server, table, or default: a cautious guess


class EmbeddingConfig(Struct, frozen=True, kw_only=True):
    """How texts would be embedded."""

    embedding_endpoint_type: str
    embedding_model: str
    embedding_dim: int
    handle: str | None = None
    embedding_endpoint: str | None = None
    embedding_chunk_size: int | None = 300
    batch_size: int = 32
    azure_endpoint: str | None = None
    azure_version: str | None = None
    azure_deployment: str | None = None


class EmbeddingModel(EmbeddingConfig, frozen=True, kw_only=True):
    """A model that embeds; the fields of `EmbeddingConfig` repeat it for older clients.

    `embedding_dim` is 0 where nobody knows it before the model's first use.
    """

    name: str
    display_name: str
    provider_name: str
    provider_type: str
    model_type: str = "embedding"


def model(ref: ModelRef) -> LettaModel:
    """Return a model as clients see it."""
    return LettaModel(
        model=ref.name,
        name=ref.name,
        handle=ref.handle,
        display_name=ref.name,
        model_endpoint_type=_known(ref.provider_type, _ENDPOINT_TYPES),
        model_endpoint=ref.endpoint,
        provider_name=ref.provider,
        provider_type=provider_type(ref),
        context_window=ref.context_window_tokens,
        max_context_window=ref.context_window_tokens,
        max_tokens=ref.max_output_tokens,
        context_window_source=ref.window_source,
    )


def provider_type(ref: ModelRef) -> str:
    """Return the type of a model's provider as clients name it."""
    return _provider_type(ref.provider_type)


def _provider_type(name: str) -> str:
    return _known("lmstudio_openai" if name == "lmstudio" else name, _PROVIDER_TYPES)


def _known(name: str, names: frozenset[str]) -> str:
    return name if name in names else "openai"


def llm_config(settings: AgentSettings, ref: ModelRef) -> LLMConfig:
    """Return how an agent calls its model, in the form that older clients read."""
    chosen = settings.model_settings
    return LLMConfig(
        model=ref.name,
        handle=settings.model,
        display_name=ref.name,
        model_endpoint_type=_known(ref.provider_type, _ENDPOINT_TYPES),
        model_endpoint=ref.endpoint,
        provider_name=ref.provider,
        context_window=settings.context_window_tokens or ref.context_window_tokens,
        temperature=DEFAULT_TEMPERATURE if chosen.temperature is None else chosen.temperature,
        max_tokens=chosen.max_output_tokens or ref.max_output_tokens,
        parallel_tool_calls=chosen.parallel_tool_calls,
        response_format=chosen.response_format,
        strict=chosen.strict,
        reasoning_effort=chosen.reasoning_effort or DEFAULT_EFFORT,
        verbosity=chosen.extra.get("verbosity"),
        put_inner_thoughts_in_kwargs=type_of(settings.agent_type).memgpt,
    )


def model_settings(chosen: ModelSettings, ref: ModelRef) -> JsonObject:
    """Return the settings of a model as clients see them, with what holds where nothing was chosen."""
    return {
        **chosen.extra,
        "provider_type": _known(ref.provider_type, _SETTINGS_TYPES),
        "max_output_tokens": chosen.max_output_tokens or ref.max_output_tokens or DEFAULT_OUTPUT_TOKENS,
        "parallel_tool_calls": chosen.parallel_tool_calls,
        "temperature": DEFAULT_TEMPERATURE if chosen.temperature is None else chosen.temperature,
        "reasoning": {"reasoning_effort": chosen.reasoning_effort or DEFAULT_EFFORT},
        "response_format": chosen.response_format,
        "strict": chosen.strict,
    }


def embedding_config(settings: AgentSettings) -> EmbeddingConfig | None:
    """Return the configuration that was given, else that of the handle, where its dimension is known."""
    if settings.embedding_config is not None:
        return msgspec.convert(settings.embedding_config, EmbeddingConfig)
    provider, _, name = (settings.embedding or "").partition("/")
    dimensions = known_dimensions(name)
    if dimensions is None:
        return None
    return EmbeddingConfig(
        embedding_endpoint_type=_embedding_type(provider),
        embedding_model=name,
        embedding_dim=dimensions,
        handle=settings.embedding,
    )


def embedding_of(handle: str, dimensions: int | None) -> EmbeddingConfig:
    """Return the configuration of what was embedded by this model; 0 where the length is not known."""
    provider, _, name = handle.partition("/")
    return EmbeddingConfig(
        embedding_endpoint_type=_embedding_type(provider),
        embedding_model=name,
        embedding_dim=dimensions or known_dimensions(name) or 0,
        handle=handle,
    )


def embedding_models(refs: Iterable[EmbeddingRef]) -> list[EmbeddingModel]:
    """Return models that embed in the order of their handles."""
    return sorted((embedding_model(ref) for ref in refs), key=lambda m: m.handle or "")


def embedding_model(ref: EmbeddingRef) -> EmbeddingModel:
    """Return a model that embeds as clients see it."""
    return EmbeddingModel(
        handle=ref.handle,
        name=ref.name,
        display_name=ref.name,
        provider_name=ref.provider,
        provider_type=_provider_type(ref.provider_type),
        embedding_endpoint_type=_embedding_type(ref.provider_type),
        embedding_endpoint=ref.endpoint,
        embedding_model=ref.name,
        embedding_dim=ref.dimensions or 0,
    )


def _embedding_type(provider_type: str) -> str:
    return "hugging-face" if provider_type == LOCAL else _known(provider_type, _EMBEDDING_TYPES)


def unresolved(handle: str) -> ModelRef:
    """Return what can be said of a model whose provider is no longer configured."""
    provider, _, name = handle.partition("/")
    return ModelRef(
        handle=handle,
        name=name,
        provider=provider,
        provider_type=provider,
        endpoint="",
        context_window_tokens=0,
    )


def models(refs: Iterable[ModelRef]) -> list[LettaModel]:
    """Return models in the order of their handles."""
    return sorted((model(ref) for ref in refs), key=lambda m: m.handle)
