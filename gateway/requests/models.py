"""What clients may ask of an agent's model: which one, and how it is called. Pure."""

from typing import Annotated, cast

from msgspec import Meta, Struct
from msgspec.structs import replace

from actors.llm.habits import ToolMode
from gateway import decode
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta.models import DEFAULT_EFFORT, DEFAULT_TEMPERATURE
from storage.records import JsonObject, ModelSettings

Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Effort = Annotated[str, Meta(pattern="^(none|minimal|low|medium|high|xhigh|max)$")]


class Reasoning(Struct, frozen=True, kw_only=True):
    """How hard the model should think."""

    reasoning_effort: Effort | None = None


class ModelSettingsRequest(Struct, frozen=True, kw_only=True):
    """The model settings that every provider shares; further keys are handed on to the provider."""

    provider_type: str | None = None
    max_output_tokens: Tokens | None = None
    parallel_tool_calls: bool | None = None
    temperature: Temperature | None = None
    reasoning: Reasoning | None = None
    response_format: JsonObject | None = None
    strict: bool | None = None
    tool_mode: ToolMode | None = None


class LLMConfigRequest(Struct, frozen=True, kw_only=True):
    """The deprecated form of model and settings. The handle decides; endpoints are the server's own."""

    handle: str | None = None
    model: str | None = None
    provider_name: str | None = None
    model_endpoint_type: str | None = None
    context_window: Tokens | None = None
    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    parallel_tool_calls: bool | None = None
    response_format: JsonObject | None = None
    strict: bool | None = None
    reasoning_effort: Effort | None = None
    verbosity: str | None = None


class ModelRequest(Struct, frozen=True, kw_only=True):
    """The fields of an agent's request that are about its model. Absent and null mean the same."""

    model: str | None = None
    llm_config: LLMConfigRequest | None = None
    model_settings: JsonObject | None = None
    context_window_limit: Tokens | None = None
    max_tokens: Tokens | None = None
    parallel_tool_calls: bool | None = None
    response_format: JsonObject | None = None


def handle_of(request: ModelRequest) -> str | None:
    """Return the model handle that a request names, `provider/name`.

    Raises:
        BadArgumentError: It is not written so.
    """
    handle, config = request.model, request.llm_config
    if handle is None and config is not None:
        handle = config.handle
        if handle is None and config.model is not None:
            provider = config.provider_name or config.model_endpoint_type or "openai"
            handle = f"{provider}/{config.model}"
    if handle is not None and not all(handle.partition("/")):
        raise BadArgumentError(
            f"the model handle {handle[:200]!r} must be written provider/name", param="/model"
        )
    return handle


def new_settings(request: ModelRequest) -> ModelSettings:
    """Return the model settings of a new agent.

    Raises:
        InvalidRequestError: A value is not allowed.
    """
    return _with_single_fields(request, _given(request) or ModelSettings())


def changed_settings(request: ModelRequest, current: ModelSettings) -> ModelSettings:
    """Return the settings after an update: `model_settings` replaces them, single fields change them.

    Clients send back what they were shown. A value that stands for "nothing was chosen" and comes back
    chooses nothing: the provider might refuse it for this model.

    Raises:
        InvalidRequestError: A value is not allowed.
    """
    given = _given(request)
    if given is None:
        return _with_single_fields(request, current)
    if current.temperature is None and given.temperature == DEFAULT_TEMPERATURE:
        given = replace(given, temperature=None)
    if current.reasoning_effort is None and given.reasoning_effort == DEFAULT_EFFORT:
        given = replace(given, reasoning_effort=None)
    return _with_single_fields(request, given)


def _given(request: ModelRequest) -> ModelSettings | None:
    if request.model_settings is not None:
        return _given_settings(request.model_settings)
    return None if request.llm_config is None else _given_config(request.llm_config)


def _with_single_fields(request: ModelRequest, settings: ModelSettings) -> ModelSettings:
    single = {
        "max_output_tokens": request.max_tokens,
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": request.response_format,
    }
    chosen = replace(settings, **{name: value for name, value in single.items() if value is not None})
    _check_format(chosen.response_format)
    return chosen


def _check_format(form: JsonObject | None) -> None:
    """Refuse a form of answers that no provider knows: it would make every call of the agent fail."""
    if form is None:
        return
    if form.get("type") not in ("text", "json_object", "json_schema"):
        raise InvalidRequestError(
            "a response format has the type text, json_object or json_schema", param="/response_format/type"
        )
    described = form.get("json_schema", form)
    schema: object = cast("JsonObject", described).get("schema") if isinstance(described, dict) else None
    if form["type"] == "json_schema" and not isinstance(schema, dict):
        raise InvalidRequestError(
            "a response format of the type json_schema needs json_schema.schema, an object",
            param="/response_format/json_schema",
        )


def _given_config(config: LLMConfigRequest) -> ModelSettings:
    return ModelSettings(
        temperature=config.temperature,
        max_output_tokens=config.max_tokens,
        parallel_tool_calls=config.parallel_tool_calls is not False,
        reasoning_effort=config.reasoning_effort,
        response_format=config.response_format,
        strict=bool(config.strict),
        extra={} if config.verbosity is None else {"verbosity": config.verbosity},
    )


def _given_settings(given: JsonObject) -> ModelSettings:
    known = decode.convert(given, ModelSettingsRequest, param="/model_settings")
    shared = ModelSettingsRequest.__struct_fields__
    return ModelSettings(
        temperature=known.temperature,
        max_output_tokens=known.max_output_tokens,
        parallel_tool_calls=known.parallel_tool_calls is not False,
        reasoning_effort=None if known.reasoning is None else known.reasoning.reasoning_effort,
        response_format=known.response_format,
        strict=bool(known.strict),
        extra={name: value for name, value in given.items() if name not in shared or name == "tool_mode"},
    )


def check_settings(given: JsonObject) -> None:
    """Check model settings in the shape of the API.

    Raises:
        InvalidRequestError: A value is not allowed.
    """
    _check_format(decode.convert(given, ModelSettingsRequest, param="/model_settings").response_format)


def window_tokens(request: ModelRequest) -> int | None:
    """Return the context window that a request asks for."""
    if request.context_window_limit is None and request.llm_config is not None:
        return request.llm_config.context_window
    return request.context_window_limit
