import asyncio
import logging
import re
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ModelError
from gateway import logs
from storage.errors import UnavailableError

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def line(
    event: str = "step finished", *, debug: bool = False, error: BaseException | None = None, **fields: object
) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.getLogger("wakeful.test").makeRecord(
        "wakeful.test", logging.INFO, __file__, 1, event, (), info, extra=fields
    )
    return logs.Formatter(quote_exceptions=debug).format(record)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_line_is_an_event_and_its_fields() -> None:
    told = line(agent_id="agent-1", steps=3, reason="it is gone", empty="", quoted='a "b"')
    assert re.match(STAMP, told)
    fields = 'agent_id=agent-1 steps=3 reason="it is gone" empty="" quoted="a \\"b\\""'
    assert told[25:] == f"info wakeful.test step finished {fields}"


@given(st.text(), st.text())
def test_whatever_is_logged_stays_one_line(event: str, value: str) -> None:
    told = line(event, value=value, error=raised(TypeError(value)))
    assert len(told.splitlines()) == 1


def test_a_long_value_is_cut() -> None:
    assert line(value="x" * 100_000).endswith('x… (100000 characters)"')


def test_an_exception_is_told_with_its_place_but_without_the_data_it_quotes() -> None:
    error = raised(ValueError("invalid input: 'my secret diary'"))
    told = line(error=error)
    assert "secret" not in told
    assert re.search(r'error="ValueError at gateway/test_logs.py:\d+ raised"$', told)
    assert "secret diary" in line(error=error, debug=True)


def test_the_words_of_errors_that_are_ours_are_told() -> None:
    told = line(error=raised(UnavailableError("it is read-only")))
    assert "UnavailableError: the database is unavailable: it is read-only" in told


def test_a_providers_words_are_not_told() -> None:
    told = line(error=raised(ModelError("you wrote: my secret diary", kind="llm_bad_request")))
    assert "ModelError: llm_bad_request" in told
    assert "secret" not in told


def test_causes_and_groups_are_told() -> None:
    cause = raised(KeyError("secret"))
    try:
        raise ExceptionGroup("tasks", [raised(UnavailableError("x"))]) from cause
    except ExceptionGroup as group:
        told = line(error=group)
    assert "ExceptionGroup at " in told
    assert "[UnavailableError: the database is unavailable: x at " in told
    assert " from KeyError at " in told
    assert "secret" not in told


@pytest.fixture
def root() -> Generator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in logs.LIBRARIES}
    yield root
    root.handlers = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_everything_goes_to_standard_error_once(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info")
    logs.set_up("info")
    logging.getLogger("wakeful.host").info("started", extra={"host": "a"})
    logging.getLogger("wakeful.host").debug("unseen")
    logging.getLogger("httpx2").info("HTTP Request: POST http://me:secret@host")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("info wakeful.host started host=a\n")


async def test_a_lost_exception_is_logged_without_its_text(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_error)
    loop.call_soon(_fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    told = capsys.readouterr().err
    assert "error wakeful.loop event loop error" in told
    assert "ValueError at gateway/test_logs.py" in told
    assert "secret" not in told.replace("_fail", "")


def _fail() -> None:
    raise ValueError("secret")
