from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tools import moments
from actors.tools.results import ToolError

GRAZ = ZoneInfo("Europe/Vienna")


def span(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    return moments.span({"from": start, "to": end}, "from", "to", here=GRAZ)


def test_a_day_begins_and_ends_where_the_agent_is() -> None:
    assert span("2026-01-02", "2026-01-02") == (
        datetime(2026, 1, 1, 23, tzinfo=UTC),
        datetime(2026, 1, 2, 22, 59, 59, 999_999, tzinfo=UTC),
    )


def test_a_time_means_itself_in_the_agent_s_timezone_or_its_own() -> None:
    assert span("2026-07-01T12:00", "2026-07-01T12:00Z") == (
        datetime(2026, 7, 1, 10, tzinfo=UTC),
        datetime(2026, 7, 1, 12, tzinfo=UTC),
    )


@pytest.mark.parametrize("left_out", [None, "", "  "])
def test_what_is_left_out_bounds_nothing(left_out: str | None) -> None:
    assert span(left_out, left_out) == (None, None)


def test_an_empty_span_is_refused_by_its_names() -> None:
    with pytest.raises(ToolError, match="from is after to; swap them"):
        span("2026-01-02", "2026-01-01")


@given(st.text(max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        first, _ = span(text, None)
    except ToolError:
        return
    assert first is None or first.tzinfo is UTC
