"""What the bench starts, speaks to and accounts."""

import os
import time
from pathlib import Path

import pytest

from bench import targets
from bench.load import Outcome, Timing
from bench.provider import Provider


def outcome(status: int, tokens: int) -> Outcome:
    return Outcome(0, 1, [Timing(0, 1, status, 0, 1, 2, tokens)], {}, [])


def test_failures_are_no_measurements() -> None:
    targets.check(outcome(200, 1))
    targets.check(outcome(200, 0), of_text=False)
    for failed in (outcome(200, 0), outcome(0, 1), outcome(503, 0)):
        with pytest.raises(RuntimeError, match="1 of 1 requests failed"):
            targets.check(failed)


def test_the_environment_configures_nothing(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    for name in ("DATABASE_URL", "WAKEFUL_PORT", "ANTHROPIC_API_KEY", "http_proxy", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "x")
    env = targets.environment(provider)
    assert env["PATH"] == os.environ["PATH"]
    assert env["OPENAI_BASE_URL"] == provider.base_url
    assert not {"DATABASE_URL", "WAKEFUL_PORT", "ANTHROPIC_API_KEY", "http_proxy"} & env.keys()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = targets.Process(["/bin/sh", "-c", "echo the reason >&2; exit 3"], {}, log)
    with pytest.raises(RuntimeError, match="the reason"):
        process.wait_ready(targets.free_port(), "/")


def test_spending_accounts_the_block_to_the_processes(provider: Provider) -> None:
    class Here:
        pid = provider.pid
        postgres_pid = os.getpid()

    with targets.spending(Here()) as spent:  # type: ignore[arg-type]
        before = time.process_time()
        while time.process_time() - before < 0.05:
            pass
    assert spent.postgres >= 0.04
    assert spent.server < 0.04
