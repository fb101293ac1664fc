"""Runs, steps and usage in Letta's shapes."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.letta import runs as letta_runs
from storage.records import Run, RunError, RunStatus, Step, StopReason, Timing, Usage

NOW = datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC)
USAGE = Usage(prompt=11, completion=7, total=18, cached=3, cache_write=2, reasoning=5, steps=2, context=9)
ERROR = RunError("llm_timeout", "late", "60 s")


def run(**fields: Any) -> Run:
    return Run(
        **{
            "id": "run-1",
            "organization_id": "org-1",
            "agent_id": "agent-1",
            "conversation_id": "agent-1",
            "status": "created",
            "created_at": NOW,
            **fields,
        }
    )


def test_a_run_has_every_field_of_the_wire_schema() -> None:
    shown = msgspec.to_builtins(letta_runs.show_run(run()))
    assert set(shown) == {
        "id",
        "status",
        "created_at",
        "completed_at",
        "agent_id",
        "conversation_id",
        "base_template_id",
        "background",
        "metadata",
        "request_config",
        "stop_reason",
        "callback_url",
        "callback_sent_at",
        "callback_status_code",
        "callback_error",
        "ttft_ns",
        "total_duration_ns",
    }


def test_the_default_conversation_of_a_run_is_null() -> None:
    assert letta_runs.show_run(run()).conversation_id is None
    assert letta_runs.show_run(run(conversation_id="conv-1")).conversation_id == "conv-1"


def test_a_run_whose_first_step_is_under_way_is_running() -> None:
    assert letta_runs.show_run(run(), running=True).status == "running"
    assert letta_runs.show_run(run(status="completed"), running=True).status == "completed"


def test_a_run_shows_its_settings_and_error_and_keeps_ours_to_itself() -> None:
    config = {"use_assistant_message": False, "stream_tokens": True, "run_type": "send_message"}
    shown = letta_runs.show_run(run(request_config=config, metadata={"a": 1}, error=ERROR))
    assert shown.request_config is not None
    assert shown.request_config == {
        "use_assistant_message": False,
        "assistant_message_tool_name": "send_message",
        "assistant_message_tool_kwarg": "message",
        "include_return_message_types": None,
    }
    assert shown.metadata == {
        "a": 1,
        "run_type": "send_message",
        "error": {"type": "llm_timeout", "message": "late", "detail": "60 s"},
    }


def test_a_step_shows_both_halves_of_its_handle_and_its_tokens() -> None:
    step = Step(
        id="step-1",
        organization_id="org-1",
        agent_id="agent-1",
        run_id="run-1",
        position=0,
        status="failed",
        model="openrouter/meta/llama",
        provider="openrouter",
        created_at=NOW,
        context_window_tokens=8000,
        usage=USAGE,
        error=ERROR,
    )
    shown = letta_runs.show_step(step)
    assert (shown.provider_name, shown.model, shown.model_handle) == (
        "openrouter",
        "meta/llama",
        "openrouter/meta/llama",
    )
    assert (shown.prompt_tokens, shown.completion_tokens, shown.total_tokens) == (11, 7, 18)
    assert (shown.cached_input_tokens, shown.cache_write_tokens, shown.reasoning_tokens) == (3, 2, 5)
    assert (shown.status, shown.error_type, shown.error_data) == (
        "failed",
        "llm_timeout",
        {"message": "late", "detail": "60 s"},
    )


def test_usage_is_told_in_both_shapes() -> None:
    assert msgspec.to_builtins(letta_runs.run_usage_of(USAGE)) == {
        "completion_tokens": 7,
        "prompt_tokens": 11,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_read_tokens": 3, "cache_creation_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    told = letta_runs.usage_of(USAGE, "run-1")
    assert (told.step_count, told.context_tokens, told.run_ids) == (2, 9, ("run-1",))


@pytest.mark.parametrize(
    ("status", "reason", "error", "failed"),
    [
        ("completed", "end_turn", None, False),
        ("cancelled", "cancelled", None, False),
        ("failed", "max_tokens_exceeded", None, False),
        ("failed", "invalid_tool_call", None, False),
        ("failed", "max_tokens_exceeded", ERROR, True),
        ("failed", "llm_api_error", ERROR, True),
        ("failed", "error", None, True),
    ],
)
def test_a_run_fails_for_its_client_where_there_is_no_answer(
    status: RunStatus, reason: StopReason, error: RunError | None, failed: bool
) -> None:
    found = letta_runs.failure_of(status, reason, error)
    assert (found is not None) is failed
    if found is not None:
        assert found == (error or RunError("internal_error", "the run failed"))


@pytest.mark.parametrize(
    ("reason", "type_", "status", "kind"),
    [
        ("insufficient_credits", "llm_error", 402, "llm_insufficient_credits"),
        ("llm_api_error", "llm_error", 400, "llm_bad_request"),
        ("llm_api_error", "llm_error", 422, "llm_bad_request"),
        ("llm_api_error", "llm_error", 503, "llm_overloaded"),
        ("llm_api_error", "llm_error", 500, "llm_error"),
        ("llm_api_error", "llm_error", None, "llm_error"),
        ("llm_api_error", "llm_timeout", 503, "llm_timeout"),
    ],
)
def test_an_http_answer_names_the_refusal_finer_than_a_stream(
    reason: StopReason, type_: str, status: int | None, kind: str
) -> None:
    assert letta_runs.refusal_of(reason, RunError(type_, "no", status=status)) == kind


def test_metrics_are_nanoseconds_since_1970_and_spans() -> None:
    step = Step(
        id="step-1",
        organization_id="org-1",
        agent_id="agent-1",
        run_id="run-1",
        position=0,
        status="success",
        model="p/m",
        provider="p",
        created_at=datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC),
        timing=Timing(queue=1, prompt=2, first_token=30, stream=400, tools=5000, compaction=60000),
    )
    shown = letta_runs.metrics_of(step)
    assert shown.step_start_ns == 1_000_005_000
    assert (shown.llm_request_ns, shown.tool_execution_ns, shown.step_ns) == (430, 5000, 65433)
