"""Why a stream is over: kept to be told in the stream, whatever failed; cancellation goes on its way."""

import asyncio
import logging

import pytest

from actors.errors import LogTrimmedError
from gateway import errors
from gateway.endings import INCOMPLETE, Ending
from storage.errors import UnavailableError


async def test_a_stream_that_ends_by_itself_ended_before_its_run() -> None:
    async with Ending("run-1") as ending:
        pass
    assert (ending.error.type, ending.error.detail) == (INCOMPLETE, None)


@pytest.mark.parametrize("failure", [LogTrimmedError("run-1"), UnavailableError("no database")])
async def test_what_the_server_could_not_do_is_told_in_its_words(failure: Exception) -> None:
    async with Ending("run-1") as ending:
        raise failure
    assert ending.error.type == INCOMPLETE
    assert "the run goes on" in ending.error.message
    assert ending.error.detail == errors.find(failure).message


async def test_a_defect_is_logged_and_its_words_are_kept_from_clients(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Ending("run-1") as ending:
        raise KeyError("secret")
    assert (ending.error.type, ending.error.message) == ("internal_error", errors.UNKNOWN)
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert (record.message, record.exc_info is not None) == ("stream failed", True)


async def test_cancellation_goes_on_its_way() -> None:
    with pytest.raises(asyncio.CancelledError):
        async with Ending("run-1"):
            raise asyncio.CancelledError
