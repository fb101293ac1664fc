"""Odd shapes of events, and usage that may be believed."""

from typing import Any

import pytest

from actors.llm import openai_shapes
from actors.llm.openai_shapes import is_error, read_chunk, read_usage
from storage.records import Usage


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": -1},
        {"prompt_tokens": 5},
        {"prompt_tokens": 10**12, "completion_tokens": 5},
        {"prompt_tokens": 10**40, "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": "5", "completion_tokens": 5},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": float("nan"), "completion_tokens": 5},
    ],
)
def test_usage_that_cannot_be_true_is_not_reported(usage: dict[str, Any] | None) -> None:
    assert read_usage(usage) is None


def test_details_that_cannot_be_true_count_as_nothing() -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "total_tokens": -1,
        "prompt_tokens_details": {"cached_tokens": -1, "cache_write_tokens": 2},
        "completion_tokens_details": "none",
        "prompt_cache_hit_tokens": 3,
    }
    assert read_usage(usage) == Usage(
        prompt=5, completion=6, total=11, cached=3, cache_write=2, reasoning=0, context=5
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"error": {"message": "x"}}, True),
        ([{"error": {"message": "x"}}], True),
        ({"error": "x"}, True),
        ({"object": "error"}, True),
        ({"type": "error"}, True),
        ({"error": None, "choices": []}, False),
        ({"error": {}, "choices": []}, False),
        ([], False),
        ("error", False),
    ],
)
def test_an_event_that_reports_a_failure_is_told_from_others(value: object, expected: bool) -> None:
    assert is_error(value) is expected


def test_what_is_odd_within_a_chunk_is_passed_over() -> None:
    chunk = read_chunk({"choices": ["x", {"delta": 5, "finish_reason": {"a": 1}}], "usage": []})
    assert chunk.choices == [openai_shapes.Choice()]


def test_events_that_strict_decoders_refuse_are_still_json() -> None:
    assert openai_shapes.loads(b'{"a":"\\ud83d","b":NaN,"c":"\xff","d":"\t"}') is not None
    with pytest.raises(ValueError, match="Expecting"):
        openai_shapes.loads(b"nonsense")
