"""conversation_search: the agent looks for what was said, by words and by date."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec

from actors import summary
from actors.prompt import zone
from actors.tools import moments
from storage import recall
from storage.pool import Conn
from storage.recall import Hit
from storage.records import JsonObject, Role

DEFAULT_HITS = 5
SAID: tuple[Role, ...] = ("user", "assistant")
MAX_HITS = 50
RESULT_CHARS = 40_000  # of all contents together: what a result may take of the model's window

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
    start, end = moments.span(arguments, "start_date", "end_date", here=here)
    hits = await recall.search(
        conn,
        agent_id=agent_id,
        query=arguments.get("query"),
        # Summaries repeat what is found in its own words, and the newest is in view.
        roles=arguments.get("roles") or SAID,
        start=start,
        end=end,
        limit=min(max(arguments.get("limit", DEFAULT_HITS), 1), MAX_HITS),
        but_run_id=run_id,
    )
    return _render(hits, here=here, now=now)


def _render(hits: Sequence[Hit], *, here: tzinfo, now: datetime) -> str:
    if not hits:
        return '{"message":"No results found.","results":[]}'
    share = RESULT_CHARS // len(hits)
    results = [_result(hit, here=here, now=now, limit_chars=share) for hit in hits]
    return msgspec.json.encode({"message": f"Showing {len(hits)} results:", "results": results}).decode()


def _result(hit: Hit, *, here: tzinfo, now: datetime, limit_chars: int) -> JsonObject:
    text = summary.unpack(hit.text)[0] if hit.role == "summary" else hit.text
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
