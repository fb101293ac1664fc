"""Shows runs, steps and usage in Letta's shapes. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from gateway.letta.speech import DEFAULT_VOICE
from storage.records import (
    FEEDBACK_KEY,
    JsonObject,
    Run,
    RunError,
    RunStatus,
    Step,
    StepFeedback,
    StopReason,
    Usage,
)

# Settings of the request that Letta shows with a run, and what they are where a run keeps none: it keeps
# what its request set to something else. Others that it keeps are ours.
_REQUEST_CONFIG: Mapping[str, Any] = {
    "use_assistant_message": True,
    "assistant_message_tool_name": DEFAULT_VOICE.tool,
    "assistant_message_tool_kwarg": DEFAULT_VOICE.argument,
    "include_return_message_types": None,
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Failures whose partial answer is an answer: the client gets messages and the reason, not an error.
_ANSWERED = ("max_tokens_exceeded", "invalid_tool_call", "no_tool_call")


class LettaRun(Struct, frozen=True, kw_only=True):
    """A run, as `GET /v1/runs/{run_id}` gives it. `conversation_id` is null for the default one."""

    id: str
    status: RunStatus
    created_at: datetime
    agent_id: str
    completed_at: datetime | None = None
    conversation_id: str | None = None
    base_template_id: str | None = None
    background: bool | None = None
    metadata: JsonObject | None = None
    request_config: JsonObject | None = None
    stop_reason: str | None = None
    callback_url: str | None = None
    callback_sent_at: datetime | None = None
    callback_status_code: int | None = None
    callback_error: str | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None


class LettaStep(Struct, frozen=True, kw_only=True):
    """A step, as `GET /v1/steps/{step_id}` gives it. Deprecated and cloud-only fields are null."""

    id: str
    origin: str | None = None
    organization_id: str | None = None
    provider_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    provider_name: str | None = None
    provider_category: str | None = "base"
    model: str | None = None
    model_handle: str | None = None
    model_endpoint: str | None = None
    context_window_limit: int | None = None
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    completion_tokens_details: JsonObject | None = None
    prompt_tokens_details: JsonObject | None = None
    stop_reason: str | None = None
    tags: tuple[str, ...] = ()
    tid: str | None = None
    trace_id: str | None = None
    request_id: str | None = None
    messages: tuple[JsonObject, ...] = ()
    feedback: str | None = None
    project_id: str | None = None
    error_type: str | None = None
    error_data: JsonObject | None = None
    status: str = "pending"


class StepMetrics(Struct, frozen=True, kw_only=True):
    """Where a step's time went, as `GET /v1/steps/{step_id}/metrics` gives it: since 1970, and durations."""

    id: str
    run_id: str
    agent_id: str
    organization_id: str
    step_start_ns: int
    llm_request_ns: int
    tool_execution_ns: int
    step_ns: int
    provider_id: str | None = None
    llm_request_start_ns: int | None = None
    base_template_id: str | None = None
    template_id: str | None = None
    project_id: str | None = None


class RunMetrics(Struct, frozen=True, kw_only=True):
    """What a run took, as `GET /v1/runs/{run_id}/metrics` gives it. `tools_used` are ids of tools."""

    id: str
    organization_id: str
    agent_id: str
    run_start_ns: int
    num_steps: int
    tools_used: list[str]
    run_ns: int | None = None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None


class LettaUsage(Struct, frozen=True, kw_only=True):
    """What a run has used: the last chunk of a stream and the `usage` of an answer."""

    message_type: str = "usage_statistics"
    completion_tokens: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0
    step_count: int = 0
    run_ids: tuple[str, ...] | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    context_tokens: int | None = None


class PromptDetails(Struct, frozen=True):
    """Where a prompt's tokens came from."""

    cached_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int


class CompletionDetails(Struct, frozen=True):
    """What a completion's tokens were."""

    reasoning_tokens: int


class RunUsage(Struct, frozen=True, kw_only=True):
    """A run's tokens, as `GET /v1/runs/{run_id}/usage` gives them."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def show_run(run: Run, *, running: bool = False) -> LettaRun:
    """Return a run in Letta's shape. `running` says that its first step is under way, not yet stored."""
    config = {name: run.request_config.get(name, usual) for name, usual in _REQUEST_CONFIG.items()}
    metadata = {name: value for name, value in run.metadata.items() if name != FEEDBACK_KEY}
    if "run_type" in run.request_config:
        metadata["run_type"] = run.request_config["run_type"]
    if run.error is not None:
        metadata["error"] = {
            "type": run.error.type,
            "message": run.error.message,
            "detail": run.error.detail,
        }
    return LettaRun(
        id=run.id,
        status="running" if running and run.status == "created" else run.status,
        created_at=run.created_at,
        agent_id=run.agent_id,
        completed_at=run.completed_at,
        conversation_id=None if run.conversation_id == run.agent_id else run.conversation_id,
        background=run.background,
        metadata=metadata,
        request_config=config,
        stop_reason=run.stop_reason,
        callback_url=run.callback_url,
        ttft_ns=run.ttft_ns,
        total_duration_ns=run.total_duration_ns,
    )


def show_step(step: Step) -> LettaStep:
    """Return a step in Letta's shape. A handle is `provider/name`; clients see both halves."""
    judged = step.feedback or StepFeedback()
    usage = step.usage
    _, _, name = step.model.partition("/")
    error: dict[str, Any] | None = None
    if step.error is not None:
        error = {"message": step.error.message, "detail": step.error.detail}
    return LettaStep(
        id=step.id,
        organization_id=step.organization_id,
        run_id=step.run_id,
        agent_id=step.agent_id,
        provider_name=step.provider,
        model=name or step.model,
        model_handle=step.model,
        context_window_limit=step.context_window_tokens,
        completion_tokens=usage.completion,
        prompt_tokens=usage.prompt,
        total_tokens=usage.total,
        cached_input_tokens=usage.cached,
        cache_write_tokens=usage.cache_write,
        reasoning_tokens=usage.reasoning,
        completion_tokens_details={"reasoning_tokens": usage.reasoning},
        prompt_tokens_details={"cached_tokens": usage.cached, "cache_creation_tokens": usage.cache_write},
        stop_reason=step.stop_reason,
        tags=judged.tags,
        feedback=judged.feedback,
        error_type=None if step.error is None else step.error.type,
        error_data=error,
        status=step.status,
    )


def metrics_of(step: Step) -> StepMetrics:
    """Return where the time of a committed step went; the model's is until its last token."""
    timing = step.timing
    asked = timing.send + timing.first_token + timing.stream
    spent = timing.claim + timing.queue + timing.prompt + asked + timing.tools + timing.compaction
    return StepMetrics(
        id=step.id,
        run_id=step.run_id,
        agent_id=step.agent_id,
        organization_id=step.organization_id,
        step_start_ns=_since_epoch(step.created_at),
        llm_request_ns=asked,
        tool_execution_ns=timing.tools,
        step_ns=spent,
    )


def run_metrics_of(run: Run, *, tools_used: list[str]) -> RunMetrics:
    """Return what a run took as of its last committed step; `run_ns` is unknown until its end."""
    return RunMetrics(
        id=run.id,
        organization_id=run.organization_id,
        agent_id=run.agent_id,
        run_start_ns=_since_epoch(run.created_at),
        num_steps=run.usage.steps,
        tools_used=tools_used,
        run_ns=run.total_duration_ns,
    )


def _since_epoch(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def usage_of(usage: Usage, run_id: str) -> LettaUsage:
    """Return what a run has used as the end of an answer tells it."""
    return LettaUsage(
        completion_tokens=usage.completion,
        prompt_tokens=usage.prompt,
        total_tokens=usage.total,
        step_count=usage.steps,
        run_ids=(run_id,),
        cached_input_tokens=usage.cached,
        cache_write_tokens=usage.cache_write,
        reasoning_tokens=usage.reasoning,
        context_tokens=usage.context,
    )


def run_usage_of(usage: Usage) -> RunUsage:
    """Return what a run has used as its own route tells it."""
    return RunUsage(
        completion_tokens=usage.completion,
        prompt_tokens=usage.prompt,
        total_tokens=usage.total,
        prompt_tokens_details=PromptDetails(usage.cached, usage.cached, usage.cache_write),
        completion_tokens_details=CompletionDetails(usage.reasoning),
    )


def failure_of(status: RunStatus, stop_reason: StopReason | str, error: RunError | None) -> RunError | None:
    """Return the error that clients are told of a finished run, or `None` where they get its answer."""
    if status != "failed" or (error is None and stop_reason in _ANSWERED):
        return None
    return error or RunError("internal_error", "the run failed")


def refusal_of(stop_reason: StopReason | str, error: RunError) -> str:
    """Return the error type of an HTTP answer, finer than that of a stream: it decides the status."""
    if stop_reason == "insufficient_credits":
        return "llm_insufficient_credits"
    if error.type != "llm_error":
        return error.type
    if error.status in (400, 413, 422):
        return "llm_bad_request"
    return "llm_overloaded" if error.status in (503, 529) else error.type
