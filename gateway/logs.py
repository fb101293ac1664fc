"""Log lines: an event's name and its fields, one line each, on standard error.

A value never makes a second line, and a traceback is one field. The message of an exception is shown only
where its text was chosen by us or by the interpreter: drivers and parsers quote the data that they choke
on, which may be what a person wrote. Level `debug` shows every message.
"""

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from actors.errors import ActorError, ModelError
from gateway.errors import GatewayError
from storage.errors import StorageError

log = logging.getLogger("wakeful.loop")

TEXT_CHARS = 2000  # of one value; logs are for sizes and names, not for documents
FRAMES = 12  # innermost ones of a traceback

# Libraries say little that an operator needs; what they do say comes through from these levels up.
LIBRARIES = {
    **dict.fromkeys(("asyncio", "aiohttp", "httpx", "httpx2", "openai"), logging.WARNING),
    **dict.fromkeys(("asyncpg", "uvicorn"), logging.ERROR),
}

_OURS = (ActorError, GatewayError, StorageError)
_SAFE = (*_OURS, AssertionError, AttributeError, ImportError, NameError, NotImplementedError, TypeError)

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}


class Formatter(logging.Formatter):
    """Writes `time level logger event field=value …`; texts with spaces or marks are JSON strings."""

    def __init__(self, *, quote_exceptions: bool = False) -> None:
        super().__init__()
        self._quote = quote_exceptions

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = f"{at.removesuffix('+00:00')}Z {record.levelname.lower()} {record.name}"
        event = " ".join(record.getMessage().split())
        parts = [head, event, *(f"{name}={_value(value)}" for name, value in _fields(record))]
        if record.exc_info and record.exc_info[1] is not None:
            parts.append(f"error={_value(_told(record.exc_info[1], quote=self._quote))}")
        return " ".join(parts)


def set_up(level: str) -> None:
    """Send every log line of the process to standard error, from `level` up. Repeating it replaces it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(quote_exceptions=level == "debug"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name, at_least in LIBRARIES.items():
        logging.getLogger(name).setLevel(max(at_least, root.level))


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what the event loop could give to nobody. An event loop's exception handler.

    Its own handler would print the task, and with it the exception's text.
    """
    del loop
    log.error("event loop error", extra={"reason": context["message"]}, exc_info=context.get("exception"))


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in vars(record).items() if name not in _STANDARD)


def _value(value: object) -> str:
    text = str(value)
    if len(text) > TEXT_CHARS:
        text = f"{text[:TEXT_CHARS]}… ({len(text)} characters)"
    plain = text.isprintable() and not any(mark in text for mark in ' "=')
    return text if plain and text else json.dumps(text, ensure_ascii=not text.isprintable())


def _told(error: BaseException, *, quote: bool) -> str:
    """Return an exception with its causes, what came first at the end: types, places, and safe texts."""
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        told.append(f"{_named(current, quote=quote)} at {_places(current)}")
        if isinstance(current, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", current)
            told += [f"[{_told(one, quote=quote)}]" for one in group.exceptions]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return " from ".join(told)


def _named(error: BaseException, *, quote: bool) -> str:
    name = type(error).__qualname__
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    if isinstance(error, ModelError) and not quote:  # providers quote what they were sent
        return f"{name}: {error.kind}"
    return f"{name}: {error}" if quote or isinstance(error, _SAFE) else name


def _places(error: BaseException) -> str:
    """Return where an exception went through, the place that raised it first."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = (f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return " < ".join(places) or "nowhere"


def _short(filename: str) -> str:
    return "/".join(filename.split("/")[-2:])
