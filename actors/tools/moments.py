"""Moments as models write them: ISO 8601, in the agent's timezone unless they say another. Pure."""

from datetime import UTC, date, datetime, time, tzinfo

from actors.tools.results import ToolError
from storage.records import JsonObject

_SHOWN_CHARS = 40


def span(
    arguments: JsonObject, start: str, end: str, *, here: tzinfo
) -> tuple[datetime | None, datetime | None]:
    """Return the moments in UTC that the arguments of these names mean; None where one is left out.

    A date alone means its first moment as a start, and its last one as an end.

    Raises:
        ToolError: One cannot be read, or the span is empty.
    """
    first = _moment(arguments.get(start), start, here=here, of_day=time.min)
    last = _moment(arguments.get(end), end, here=here, of_day=time.max)
    if first is not None and last is not None and first > last:
        raise ToolError(f"{start} is after {end}; swap them")
    return first, last


def _moment(text: str | None, name: str, *, here: tzinfo, of_day: time) -> datetime | None:
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
