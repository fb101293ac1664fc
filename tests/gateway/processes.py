"""`wakeful serve` in a process of its own, for tests of the process itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bench.provider import Provider
from bench.targets import environment, free_port

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gateway.cli"]
END_SECONDS = 15.0


class Process:
    """A server process. It is up when `start` returns; leaving the block kills it if it still runs."""

    def __init__(
        self, *flags: str, provider: Provider | None = None, port: int | None = None, **env: str
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [*COMMAND, "serve", "--port", str(self.port), *flags]
        self._env = environment(provider) | env
        self._process: subprocess.Popen[str]
        self.said: list[str] = []

    def start(self) -> Self:
        """Start it and wait until it serves; what it announced is in `said`."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.strip())
            if line.startswith("  try "):
                return self
        raise AssertionError(f"the server ended with {self._process.wait()}: {self._process.stderr.read()}")  # type: ignore[union-attr]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it wrote to standard error."""
        _, errors = self._process.communicate(timeout=END_SECONDS)
        return self._process.returncode, errors

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=END_SECONDS, trust_env=False, **more)

    def agent(self, **fields: Any) -> str:
        """Create an agent and return its id."""
        response = self.request("POST", "/v1/agents/", json={"name": "ada", **fields})
        assert response.status_code == 200, response.text
        return response.json()["id"]

    def say(self, agent_id: str, text: str) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}]}
        return self.request("POST", f"/v1/agents/{agent_id}/messages", json=body)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()


def run(*arguments: str, typed: str = "", **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment() | env,
        input=typed,
        text=True,
        capture_output=True,
        timeout=END_SECONDS,
        check=False,
    )


@contextmanager
def on_database(dsn: str, provider: Provider | None = None, *flags: str) -> Generator[Process]:
    """Yield a server on this database, which needs no data directory."""
    with Process("--database-url", dsn, "--host-name", "test", *flags, provider=provider) as process:
        yield process


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
