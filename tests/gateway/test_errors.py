"""Every error has one answer."""

import inspect
import json
import logging
from types import ModuleType
from typing import Any

import pytest

from actors import errors as actor
from gateway import errors as gateway
from gateway.errors import TABLE, answer, find
from storage import errors as storage


def classes(module: ModuleType, base: type[Exception]) -> list[type[Exception]]:
    return [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, base)]


ALL = [
    *classes(storage, storage.StorageError),
    *classes(actor, actor.ActorError),
    *(c for c in classes(gateway, gateway.GatewayError) if c is not gateway.GatewayError),
]


def body(error: Exception) -> dict[str, Any]:
    return json.loads(bytes(answer(error, "req-1").body))


@pytest.mark.parametrize("cls", ALL)
def test_every_error_is_in_the_table_itself(cls: type[Exception]) -> None:
    assert cls in TABLE


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (storage.NotFoundError("agent", "x"), 404, None),
        (storage.ConflictError("m", constraint="tool_name_is_unique"), 409, "false"),
        (storage.KeyReusedError("k", "run-1"), 409, "false"),
        (storage.StaleBlocksError("a", ("b",)), 409, "true"),
        (storage.FencedError("a", 1), 503, "true"),
        (storage.RefusedError("secret"), 422, None),
        (storage.UnavailableError("secret"), 503, "true"),
        (actor.BusyError("c", "run-1"), 409, "false"),
        (actor.NothingToCancelError(), 409, "false"),
        (actor.MailboxFullError("agent", 256, 2.5), 429, "true"),
        (actor.DrainingError(), 503, "true"),
        (actor.InvalidEditError("m", field="f"), 422, None),
        (actor.InvalidEditError("m", field="f", conflict=True), 409, "false"),
        (actor.LogTrimmedError("run-1"), 410, None),
        (actor.UnknownModelError("a/b", ("c/d",)), 404, None),
        (actor.ModelError("m", kind="llm_rate_limit", retry_after=3), 429, None),
        (actor.ModelError("m", kind="llm_authentication"), 401, "false"),
        (actor.ModelError("m", kind="llm_timeout"), 504, None),
        (actor.ModelError("m"), 502, None),
        (actor.EmbeddingError("m"), 502, "false"),
        (actor.EmbeddingError("m", retryable=True, retry_after=2), 503, "true"),
        (actor.EmbeddingError("m", refused=True), 400, "false"),
        (TimeoutError(), 504, "false"),
        (ValueError("secret"), 500, None),
    ],
)
def test_statuses_and_retries_are_what_clients_rely_on(
    error: Exception, status: int, retry: str | None
) -> None:
    response = answer(error, "req-1")
    assert response.status_code == status
    assert response.headers.get("x-should-retry") == retry
    decoded = body(error)
    assert decoded["error"]["request_id"] == "req-1"
    assert decoded["error"]["type"]
    assert "secret" not in json.dumps(decoded)
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1


def test_texts_that_clients_compare_are_exact() -> None:
    assert body(storage.NotFoundError("agent", "agent-1"))["detail"] == "Agent not found"
    assert body(ValueError())["detail"] == "An unknown error occurred"
    assert body(gateway.UnauthorizedError())["detail"] == "Unauthorized"
    busy = body(actor.BusyError("conv-1", "run-7"))
    assert busy["run_id"] == "run-7"
    assert busy["detail"].startswith(
        "CONFLICT: Cannot send a new message: Another request (run_id=run-7) is currently being processed "
        "for this conversation. "
    )


def test_a_missing_row_and_one_of_somebody_else_read_the_same() -> None:
    assert body(storage.NotFoundError("block", "block-1"))["detail"] == "Block 'block-1' not found"


def test_a_validation_error_is_a_text_with_a_pointer() -> None:
    decoded = body(gateway.InvalidRequestError("no", param="/a/0"))
    assert decoded["detail"] == "no"
    assert decoded["error"]["param"] == "/a/0"


def test_an_error_alone_in_a_group_is_that_error_and_several_are_unknown() -> None:
    one = storage.NotFoundError("agent", "x")
    assert find(ExceptionGroup("g", [ExceptionGroup("h", [one])])).status == 404
    assert find(ExceptionGroup("g", [one, one])).status == 500


def test_a_subclass_is_answered_as_its_base() -> None:
    class OddError(storage.UnavailableError):
        pass

    assert find(OddError("x")).status == 503


def test_only_what_nobody_expected_is_logged_as_an_error_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        answer(storage.NotFoundError("agent", "x"), "req-1")
        answer(ValueError("boom"), "req-2")
    refused, failed = caplog.records
    assert (refused.levelname, refused.exc_info) == ("INFO", None)
    assert failed.levelname == "ERROR"
    assert failed.exc_info is not None
    assert vars(failed)["request_id"] == "req-2"


def test_answers_to_bodies_that_were_not_read_close_the_connection() -> None:
    assert answer(gateway.TooLargeError(10), "r").headers["connection"] == "close"
    assert answer(gateway.SlowBodyError("m"), "r").headers["connection"] == "close"
