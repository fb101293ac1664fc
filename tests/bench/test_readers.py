"""The realtime client, against the bare application."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.readers import Counted, Readers
from bench.targets import Process, environment, free_port

FRAME = '{"push":{"channel":"c","pub":{"data":{"type":"TEXT_MESSAGE_CONTENT","delta":"a"}}}}'


@pytest.fixture(params=[(), ("--raw",)], ids=["uvicorn", "raw"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", FRAME, *request.param]
    process = Process(command, environment(), tmp_path / "log")
    process.wait_ready(port, "/")
    yield port
    process.stop()


def until_tokens(readers: Readers, wanted: int) -> Counted:
    deadline = time.monotonic() + 30
    while (counted := readers.count()).tokens < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return counted


@pytest.mark.timeout(60)
def test_every_connection_of_a_group_gets_its_frames_until_it_leaves(bare: int) -> None:
    with Readers() as readers:
        readers.open_plain(bare, ["/0", "/0", "/5"])
        counted = until_tokens(readers, 6)
        assert counted.sample == FRAME
        assert counted.tokens == counted.messages
        readers.leave()
        readers.count()
        assert readers.count().tokens == 0
        assert readers.count().lost == 0


@pytest.mark.timeout(60)
def test_one_that_stalls_counts_nothing_until_it_goes_on(bare: int) -> None:
    with Readers() as readers:
        readers.open_plain(bare, ["/0"])
        until_tokens(readers, 1)
        readers.stall()
        readers.count()
        assert readers.count().tokens == 0
        readers.go_on()
        until_tokens(readers, 1)


@pytest.mark.timeout(60)
def test_a_server_that_is_not_there_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with Readers() as readers, pytest.raises(RuntimeError, match="realtime client failed"):
        readers.open_plain(free_port(), ["/0"])
    assert "ConnectionRefusedError" in capfd.readouterr().err
