"""conversation_search: the agent looks for what was said, by words and by date."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import msgspec

from actors.prompt import zone
from actors.tools.results import ToolError
from storage import recall
from storage.pool import Conn
from storage.recall import Hit
from storage.records import JsonObject

DEFAULT_HITS = 5
MAX_HITS = 50
RESULT_CHARS = 40_000  # of all contents together: what a result may take of the model's window

_SHOWN_CHARS = 40
_UNITS = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3_600), ("minute", 60))


async def search(
    conn: Conn,
    arguments: JsonObject,
    *,
    agent_id: str,
    timezone: str,
    now: datetime,
    run_id: str | None = None,
) -> str:
    """Return the JSON text of what was found; `arguments` have passed `arguments.parse`.

    Dates without an offset are in `timezone`. Messages of `run_id` are left out: the run that asks
    would find its own question first. Cancelling loses nothing.

    Raises:
        ToolError: A date cannot be read, or the span is empty.
    """
    here = zone(timezone)
    start = _moment(arguments.get("start_date"), "start_date", here=here, of_day=time.min)
    end = _moment(arguments.get("end_date"), "end_date", here=here, of_day=time.max)
    if start is not None and end is not None and start > end:
        raise ToolError("start_date is after end_date; swap them")
    hits = await recall.search(
        conn,
        agent_id=agent_id,
        query=arguments.get("query"),
        roles=arguments.get("roles"),
        start=start,
        end=end,
        limit=min(max(arguments.get("limit", DEFAULT_HITS), 1), MAX_HITS),
        but_run_id=run_id,
    )
    return _render(hits, here=here, now=now)


def _moment(text: str | None, name: str, *, here: tzinfo, of_day: time) -> datetime | None:
    """Return the moment that `text` names, in UTC; a date alone means its `of_day`."""
    text = (text or "").strip()
    if not text:
        return None
    try:
        return _parse(text, here=here, of_day=of_day).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ToolError(
            f"{name} {text[:_SHOWN_CHARS]!r} is not a date; send ISO 8601, such as 2026-03-31T14:30"
        ) from error


def _parse(text: str, *, here: tzinfo, of_day: time) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), of_day, here)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=here)


def _render(hits: Sequence[Hit], *, here: tzinfo, now: datetime) -> str:
    if not hits:
        return '{"message":"No results found.","results":[]}'
    share = RESULT_CHARS // len(hits)
    results = [_result(hit, here=here, now=now, limit_chars=share) for hit in hits]
    return msgspec.json.encode({"message": f"Showing {len(hits)} results:", "results": results}).decode()


def _result(hit: Hit, *, here: tzinfo, now: datetime, limit_chars: int) -> JsonObject:
    text = hit.text
    if len(text) > limit_chars:
        text = f"{text[:limit_chars]}... [{len(text)} characters]"
    result: JsonObject = {
        "timestamp": hit.created_at.astimezone(here).isoformat(timespec="seconds"),
        "time_ago": ago(now - hit.created_at),
        "role": hit.role,
    }
    if hit.rank is not None:
        result["relevance"] = {"fts_rank": hit.rank, "search_mode": "fts"}
    result["content"] = text
    return result


def ago(span: timedelta) -> str:
    """Return a span of time in the words of a person: its largest unit, rounded down."""
    seconds = int(span.total_seconds())
    for unit, size in _UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
