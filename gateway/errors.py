"""What the gateway refuses, and the one table that turns every error into an HTTP answer."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct
from starlette.responses import Response

from actors import errors as actor
from storage import errors as storage

log = logging.getLogger("wakeful.gateway")

UNKNOWN = "An unknown error occurred"


class GatewayError(Exception):
    """Base of everything that the gateway raises on purpose."""


class InvalidRequestError(GatewayError):
    """The request cannot be what its sender meant (422). `param` points at the field, as RFC 6901 does."""

    def __init__(self, message: str, *, param: str | None = None, kind: str = "validation_error") -> None:
        super().__init__(message)
        self.param = param
        self.kind = kind


class BadArgumentError(GatewayError):
    """The request is well formed but asks for something that makes no sense here (400)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class TooLargeError(GatewayError):
    """The body is larger than this route accepts (413); the connection is closed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class AnswerTooLargeError(GatewayError):
    """The answer is larger than a message of a websocket may be (413); REST answers the same."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the answer has {size_bytes} bytes, more than {limit_bytes}: ask for it over REST")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class HeadersTooLargeError(GatewayError):
    """The headers are larger than any client needs (431); the connection is closed."""


class UnsupportedMediaError(GatewayError):
    """The body is not plain `application/json` in UTF-8 (415)."""


class UnauthorizedError(GatewayError):
    """No key or a wrong one (401). The answer is the same for both."""


class TokenExpiredError(UnauthorizedError):
    """A token was good and is no longer: its holder can get another (401)."""


class ForbiddenError(GatewayError):
    """A page of another origin called a server that has no key, or a token lacks a scope (403)."""


class MisdirectedError(GatewayError):
    """The `Host` header names another machine, as in DNS rebinding (421)."""


class WrongStateError(GatewayError):
    """What the request is about is over, or not yet so far, or is otherwise not as it expects (409)."""


class TooManyRequestsError(GatewayError):
    """The caller, or all callers together, asked for more than there is room for (429)."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotSupportedError(GatewayError):
    """This release does not do that, and ignoring it would change the meaning of the request (501)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownRouteError(GatewayError):
    """No route has this path (404)."""


class UpgradeRequiredError(GatewayError):
    """A plain request for a websocket's path (426): often a proxy in front has dropped its upgrade."""


class WrongMethodError(GatewayError):
    """The path exists, the method does not (405)."""

    def __init__(self, method: str, allowed: tuple[str, ...], reason: str | None = None) -> None:
        super().__init__(reason or f"{method} is not allowed here; allowed: {', '.join(allowed)}")
        self.allowed = allowed


class SlowBodyError(GatewayError):
    """The client did not send its body in time (408); the connection is closed."""


class Answer(Struct, frozen=True, kw_only=True):
    """An HTTP answer to an error. `detail` is Letta's text or object; `message` the same for people.

    `retry` becomes `X-Should-Retry`, which the SDKs obey; `None` leaves their own rule in force.
    `extra` are further keys of the body that Letta's clients read.
    """

    status: int
    kind: str
    message: str
    detail: Any = None
    param: str | None = None
    retry: bool | None = None
    retry_after: float | None = None
    close: bool = False
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}


BUSY = (
    "CONFLICT: Cannot send a new message: Another request (run_id={run_id}) is currently being processed "
    "for this conversation. Please wait for the current request to complete."
)

PENDING = (
    "CONFLICT: Cannot send a new message: The agent is waiting for approval on a tool call. "
    "Please approve or deny the pending request before continuing."
)

CONSTRAINTS: dict[str, str] = {
    "block_label_is_unique_per_agent": "CONFLICT: the agent already has a block with this label",
    "tool_name_is_unique": "CONFLICT: a tool with this name already exists",
}

MODEL_STATUS: dict[str, int] = {
    "llm_bad_request": 400,
    "context_window_exceeded": 400,
    "context_window_overflow_in_system_prompt": 400,
    "llm_authentication": 401,
    "llm_insufficient_credits": 402,
    "llm_permission_denied": 403,
    "llm_not_found": 404,
    "llm_unprocessable_entity": 422,
    "llm_rate_limit": 429,
    "llm_connection": 502,
    "llm_overloaded": 503,
    "llm_timeout": 504,
}


def _not_found(error: storage.NotFoundError) -> Answer:
    # One text for rows that are missing and rows of somebody else.
    known = (
        "Agent not found" if error.noun == "agent" else f"{error.noun.capitalize()} {error.id!r} not found"
    )
    return Answer(status=404, kind="not_found", message=known)


def _unknown_tools(error: storage.UnknownToolsError) -> Answer:
    # In the words of Letta's server, by which its clients know that they can go on without these tools.
    missing = (("name", error.names, "/tools"), ("id", error.ids, "/tool_ids"))
    by, keys, param = next((m for m in missing if m[1]), missing[0])
    listed = ", ".join(repr(key) for key in keys)
    return Answer(
        status=400,
        kind="invalid_argument",
        message=f"Tools not found by {by}: {{{listed}}}. client.tools.list has what there is; tools of "
        "your own are sent as client_tools with a message",
        param=param,
    )


def _conflict(error: storage.ConflictError) -> Answer:
    text = CONSTRAINTS.get(error.constraint or "", "CONFLICT: another row stands in the way of this write")
    if error.constraint is None:
        text = f"CONFLICT: {error}"
    return Answer(status=409, kind="conflict", message=text, retry=False)


def _busy(error: actor.BusyError) -> Answer:
    text = BUSY.format(run_id=error.run_id)
    return Answer(
        status=409, kind="conversation_busy", message=text, retry=False, extra={"run_id": error.run_id}
    )


def _pending(error: actor.PendingApprovalError) -> Answer:
    detail = {"code": "PENDING_APPROVAL", "message": PENDING, "pending_request_id": error.message_id}
    return Answer(status=409, kind="pending_approval", message=PENDING, detail=detail, retry=False)


def _edit(error: actor.InvalidEditError) -> Answer:
    param = f"/{error.field}"
    if error.conflict:
        return Answer(status=409, kind="conflict", message=f"CONFLICT: {error}", param=param, retry=False)
    return Answer(status=422, kind="validation_error", message=str(error), param=param)


def _model(error: actor.ModelError) -> Answer:
    status = MODEL_STATUS.get(error.kind, 502)
    return Answer(
        status=status,
        kind=error.kind,
        message=str(error),
        retry=False if status < 429 else None,
        retry_after=error.retry_after,
    )


def _embedding(error: actor.EmbeddingError) -> Answer:
    return Answer(
        status=400 if error.refused else 503 if error.retryable else 502,
        kind="embedding_error",
        message=str(error),
        retry=error.retryable,
        retry_after=error.retry_after,
    )


def _said(status: int, kind: str, **more: Any) -> Callable[[Any], Answer]:
    """Answer with the error's own text, which was chosen for clients where it was raised."""

    def answer(error: Exception) -> Answer:
        return Answer(
            status=status, kind=kind, message=str(error), param=getattr(error, "param", None), **more
        )

    return answer


def _fixed(status: int, kind: str, message: str, **more: Any) -> Callable[[Any], Answer]:
    """Answer with this text: the error's own is for operators."""
    fixed = Answer(status=status, kind=kind, message=message, **more)
    return lambda _: fixed


_UNAVAILABLE = _fixed(
    503, "unavailable", "the database is not available; nothing was accepted", retry=True, retry_after=1
)
_MOVED = _fixed(503, "unavailable", "the agent has moved to another host", retry=True, retry_after=1)
_UNAUTHORIZED = _fixed(
    401,
    "unauthorized",
    "the key or token is missing, or is not right: send Authorization: Bearer, and the server's API key",
    detail="Unauthorized",
    headers={"www-authenticate": 'Bearer realm="wakeful"'},
)
_UNKNOWN = _fixed(500, "internal_error", UNKNOWN)

TABLE: dict[type[Exception], Callable[[Any], Answer]] = {
    InvalidRequestError: lambda e: Answer(status=422, kind=e.kind, message=str(e), param=e.param),
    BadArgumentError: _said(400, "invalid_argument"),
    TooLargeError: _said(413, "too_large", close=True),
    AnswerTooLargeError: _said(413, "too_large", retry=False),
    HeadersTooLargeError: _said(431, "headers_too_large", close=True),
    UnsupportedMediaError: _said(415, "unsupported_media_type", close=True),
    UnauthorizedError: _UNAUTHORIZED,
    TokenExpiredError: _UNAUTHORIZED,
    ForbiddenError: _said(403, "forbidden"),
    MisdirectedError: _said(421, "misdirected"),
    WrongStateError: _said(409, "conflict", retry=False),
    TooManyRequestsError: lambda e: Answer(
        status=429, kind="too_many_requests", message=str(e), retry=True, retry_after=e.retry_after
    ),
    NotSupportedError: _said(501, "not_supported", retry=False),
    UnknownRouteError: _fixed(
        404, "not_found", "nothing is at this path; /docs/routes lists what there is", detail="Not Found"
    ),
    UpgradeRequiredError: _fixed(
        426,
        "upgrade_required",
        "this path is a websocket, and the request is none: a proxy in front of the server must pass Upgrade",
        headers={"upgrade": "websocket"},
    ),
    WrongMethodError: lambda e: Answer(
        status=405, kind="method_not_allowed", message=str(e), headers={"allow": ", ".join(e.allowed)}
    ),
    SlowBodyError: _said(408, "timeout", close=True),
    storage.NotFoundError: _not_found,
    storage.UnknownToolsError: _unknown_tools,
    storage.KeyReusedError: lambda e: Answer(
        status=409,
        kind="idempotency_key_reused",
        message=f"CONFLICT: {e}",
        retry=False,
        extra={"run_id": e.run_id},
    ),
    storage.ConflictError: _conflict,
    storage.LabelTakenError: _conflict,
    storage.StaleBlocksError: _fixed(
        409, "conflict", "CONFLICT: the block was changed by others meanwhile", retry=True, retry_after=1
    ),
    storage.RefusedError: _fixed(422, "validation_error", "the database cannot store this value"),
    storage.FencedError: _MOVED,
    storage.OwnedError: _MOVED,
    storage.UnavailableError: _UNAVAILABLE,
    storage.EmbeddedError: _UNAVAILABLE,
    storage.SchemaError: _UNAVAILABLE,
    storage.StorageError: _UNKNOWN,
    actor.BusyError: _busy,
    actor.PendingApprovalError: _pending,
    actor.InvalidAnswerError: lambda e: Answer(
        status=400, kind="invalid_argument", message=str(e), param="/messages"
    ),
    actor.MailboxFullError: lambda e: Answer(
        status=429, kind="mailbox_full", message=str(e), retry=True, retry_after=e.retry_after
    ),
    actor.DrainingError: _said(503, "draining", retry=True, retry_after=1),
    actor.InvalidEditError: _edit,
    actor.BrokenAgentError: _said(500, "internal_error"),
    actor.LogTrimmedError: _said(410, "log_trimmed"),
    actor.NothingToCancelError: _fixed(
        409, "nothing_to_cancel", "CONFLICT: No active runs to cancel", retry=False
    ),
    actor.NotRunningError: _said(409, "not_running"),
    actor.ModelError: _model,
    actor.NotShorterError: _said(400, "invalid_argument"),
    actor.UnknownModelError: _said(404, "unknown_model"),
    actor.EmbeddingError: _embedding,
    actor.ActorError: _UNKNOWN,
    # The route's deadline passed. Whether the write happened is not known, so nobody repeats it blindly.
    TimeoutError: _fixed(
        504, "timeout", "the request took too long; it may still have taken effect", retry=False
    ),
}


def find(error: Exception) -> Answer:
    """Return the answer for an error: its own class's, else that of the nearest base in the table."""
    while isinstance(error, ExceptionGroup):
        inside = cast("list[Exception]", list(cast("Any", error).exceptions))
        if len(inside) > 1:
            return _UNKNOWN(error)
        error = inside[0]
    for cls in type(error).__mro__:
        if (make := TABLE.get(cls)) is not None:
            return make(error)
    return _UNKNOWN(error)


def answer(error: Exception, request_id: str) -> Response:
    """Turn an error into its response; what nobody expected is logged here, once, with its traceback."""
    found = find(error)
    if found.status == 500:
        log.error("request failed", extra={"request_id": request_id}, exc_info=error)
    else:
        log.info(
            "request refused",
            extra={"request_id": request_id, "status": found.status, "kind": found.kind},
        )
    return render(found, request_id)


def render(found: Answer, request_id: str) -> Response:
    """Return the response of an answer: Letta's `detail` and our `error` in one body."""
    response = Response(
        msgspec.json.encode(body(found, request_id)), status_code=found.status, media_type="application/json"
    )
    headers = response.headers
    for name, value in found.headers.items():
        headers[name] = value
    if found.retry is not None:
        headers["x-should-retry"] = "true" if found.retry else "false"
    if found.retry_after is not None:
        headers["retry-after"] = str(max(1, round(found.retry_after)))
    if found.close:
        headers["connection"] = "close"
    return response


def body(found: Answer, request_id: str) -> dict[str, Any]:
    """Return the one error body of every route and stream."""
    error: dict[str, Any] = {"type": found.kind, "message": found.message, "request_id": request_id}
    if found.param is not None:
        error["param"] = found.param
    return {
        "detail": found.message if found.detail is None else found.detail,
        **found.extra,
        "error": error,
    }
