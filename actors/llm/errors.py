"""Says what a failed model call means: one table from a provider's words to a `ModelError`."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.errors import ModelError
from actors.llm.lacks import lacking

MESSAGE_CHARS = 500
RETRY_AFTER_CAP = 3600.0

# What providers write, as seen in their public error documentation and issue trackers (November 2026).
_OVERFLOW = re.compile(
    r"context.?(length|window|size)|context.{0,20}overflow|maximum (context|prompt)|too many (input )?tokens"
    r"|prompt is too long|exceeds? the (model's )?(maximum|available) (context|number of tokens|tokens)"
    r"|input.? (token count|length|is too long)|inputs.? tokens|reduce the length",
    re.IGNORECASE,
)
_NO_CREDIT = re.compile(
    r"insufficient.?(quota|balance|credits?|funds)|billing_hard_limit|credit balance|out of credits"
    r"|exceeded your current quota",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"invalid_api_key|api.?key not valid|(incorrect|invalid|missing|no|bad) (api|x-api|auth\w*).?key"
    r"|authentication_error|unauthenticated",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|invalid_model\b|model .{0,80}(does not exist|not found|is not available)",
    re.IGNORECASE,
)
_RATE = re.compile(r"rate.?limit|too many requests|resource_exhausted", re.IGNORECASE)
_FLAGGED = re.compile(
    r"content.?(filter|policy|management)|responsible.?ai|moderation|flagged", re.IGNORECASE
)
_BAD_REQUEST = re.compile(r"invalid.?request|bad.?request|unprocessable", re.IGNORECASE)
_CONTENT_PARAMS = re.compile(r"messages|input|content|prompt", re.IGNORECASE)

_SECRETS = (
    # URLs keep their host and path; user, password and query may hold secrets.
    (re.compile(r"(\w+://)[^\s/@]*@"), r"\1"),
    (re.compile(r"(https?://[^\s?#\"']+)[?#][^\s\"']*"), r"\1"),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 [removed]"),
    (
        re.compile(
            r"\b((?:api[ _-]?key|token|secret|password)(?: provided)?[\"']?\s*[:=]\s*[\"']?)[^\s\"',;]+",
            re.IGNORECASE,
        ),
        r"\1[removed]",
    ),
    (re.compile(r"\b(?:(?:sk|pk|rk|gsk|xai|key|org|proj|sess|hf|r8)[-_]|AIza|eyJ)[\w*.-]{6,}"), "[removed]"),
    (re.compile(r"\b(?=\w*\d)[A-Za-z0-9_]{28,}"), "[removed]"),
)


class Refusal(Struct, frozen=True, kw_only=True):
    """What a provider said when it failed: the HTTP status and the words of its error object."""

    status: int | None = None
    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""

    @property
    def words(self) -> str:
        """Return everything it said, to search in."""
        return f"{self.code} {self.type} {self.message}"


def read_refusal(body: object, status: int | None = None) -> Refusal:
    """Return what an error body says, whichever of the common shapes it has.

    `body` is decoded JSON, or text. Shapes: OpenAI's `{"error": {…}}`, Gemini's list of it, vLLM's
    flat object, Ollama's `{"error": "text"}`, FastAPI's `{"detail": …}`.
    """
    if isinstance(body, list) and body:
        body = cast("list[object]", body)[0]
    if not isinstance(body, Mapping):
        return Refusal(status=status, message=body if isinstance(body, str) else "")
    outer = cast("Mapping[str, object]", body)
    inner = outer.get("error") or outer
    if not isinstance(inner, Mapping):
        return Refusal(status=status, message=str(inner))
    error = cast("Mapping[str, object]", inner)
    code = error.get("code")
    if status is None and isinstance(code, int) and 400 <= code <= 599:
        status = code
    message = error.get("message") or error.get("detail") or ""
    return Refusal(
        status=status,
        message=message if isinstance(message, str) else str(message),
        code="" if code is None else str(code),
        type=str(error.get("type") or error.get("status") or ""),
        param=str(error.get("param") or ""),
    )


def classify(
    refusal: Refusal, provider: str, *, retry_after: float | None = None, secrets: Iterable[str] = ()
) -> ModelError:
    """Return the error for a refusal: from a status line, or (without status) from inside a stream.

    The order matters: money and keys hide behind several statuses, and an overflow behind 400 and 413.
    An overflow is also a refusal of the content: what is still too long after compaction is excluded.
    """
    said = redact(refusal.message, secrets)

    def error(what: str, **facts: Any) -> ModelError:
        where = f" ({refusal.status})" if refusal.status else ""
        text = f"model provider {provider!r} {what}{where}" + (f": {said}" if said else "")
        return ModelError(text, status=refusal.status, **facts)

    status, words = refusal.status, refusal.words
    vague = status in (None, 400)
    overflows = _OVERFLOW.search(words) is not None
    lacks = "" if overflows else lacking(status, words, refusal.param)
    if lacks == "images":
        return error("cannot look at images with this model", refused_content=True, lacks=lacks)
    if lacks:
        return error("refused the request", lacks=lacks)
    if status == 402 or _NO_CREDIT.search(words):
        return error("has no credit left for this key", stop_reason="insufficient_credits")
    if status in (None, 400, 403) and _FLAGGED.search(words):
        return error("refused the content", refused_content=True)
    if status in (401, 403) or (vague and _BAD_KEY.search(words)):
        return error("rejected the API key", kind="llm_authentication")
    if status == 404 or (vague and _NO_MODEL.search(words)):
        return error("does not know this model or address")
    if status == 429 or (status is None and _RATE.search(words)):
        return error(
            "limits the rate of requests", kind="llm_rate_limit", retryable=True, retry_after=retry_after
        )
    if overflows:
        return error("found the request longer than its window", refused_content=True, overflow=True)
    if status in (400, 413, 422) or (status is None and _BAD_REQUEST.search(words)):
        # A setting that the model does not know is no fault of the messages: they stay in the window.
        about_a_setting = bool(refusal.param) and not _CONTENT_PARAMS.match(refusal.param)
        return error("refused the request", refused_content=not about_a_setting)
    if status in (408, 504):
        return error("timed out", kind="llm_timeout", retryable=True, retry_after=retry_after)
    if status is None or status == 409 or status >= 500:
        return error("failed", retryable=True, retry_after=retry_after)
    if 300 <= status < 400:
        return error("redirects elsewhere; check its base URL")
    return error("refused the request")


def cut_short(provider: str) -> ModelError:
    """Return the error for an answer whose end never came."""
    return ModelError(
        f"the answer of model provider {provider!r} was cut off before its end",
        kind="stream_incomplete",
        retryable=True,
    )


def endless(provider: str, size_bytes: int) -> ModelError:
    """Return the error for an answer that had no end within this size."""
    return ModelError(
        f"the answer of model provider {provider!r} did not end within {size_bytes >> 20} MiB",
        stop_reason="invalid_llm_response",
    )


def empty_answer(provider: str) -> ModelError:
    """Return the error for a success that holds nothing at all."""
    return ModelError(
        f"model provider {provider!r} answered with nothing",
        kind="llm_empty_response",
        stop_reason="invalid_llm_response",
        retryable=True,
    )


def garbage(provider: str, what: str, *, retryable: bool = True) -> ModelError:
    """Return the error for an answer that does not follow the protocol; `what` is chosen text."""
    return ModelError(
        f"model provider {provider!r} sent {what}",
        kind="llm_error",
        stop_reason="invalid_llm_response",
        retryable=retryable,
    )


def timed_out(provider: str, what: str, seconds: float) -> ModelError:
    """Return the error for a wait that ended; `what` is what did not come in time."""
    return ModelError(
        f"model provider {provider!r} sent {what} within {seconds:g} s", kind="llm_timeout", retryable=True
    )


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` on one line, at most 500 characters, without what looks like a key or a password."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[removed]")
    text = " ".join(text[: 4 * MESSAGE_CHARS].replace("\0", " ").split())
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds a provider asks to wait, at most an hour, or `None`.

    Reads `retry-after-ms`, then `retry-after` as seconds or as an HTTP date (RFC 9110, 10.2.3).
    `headers` must look names up without regard to case.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if (text := headers.get(name)) is None:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            seconds = _until(text, now)
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            return min(seconds, RETRY_AFTER_CAP)
    return None


def _until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def decode_body(body: bytes) -> object:
    """Return a response body as decoded JSON, or as text where it is none."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
