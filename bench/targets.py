"""What is measured: the relay and this server, each with a Postgres of its own, spoken to in one way."""

import asyncio
import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from bench import load, measure, seeding
from bench.case import Bar, unseen
from bench.doors import HISTORY_TEXT
from bench.load import NUMBER, Job, Slot
from bench.provider import Provider
from storage import embedded

START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.005
PORTS = range(20_000, 30_000)
FAST = "fixed-t20-d0-g0"  # a model with no latency and an answer of twenty tokens

Request = tuple[str, str]  # path and JSON body


class Target(Protocol):
    """A server under test. `postgres_pid` is its own database's main process."""

    name: str
    port: int

    @property
    def pid(self) -> int: ...
    @property
    def postgres_pid(self) -> int: ...

    def start(self) -> None:
        """Start database and server, and wait until it answers."""
        ...

    def stop(self) -> None:
        """End both."""
        ...

    def creation(self, model: str) -> Request:
        """The request that creates an agent."""
        ...

    def message(self, agent_id: str, *, stream: bool = False) -> Request:
        """The request that sends an agent a message, numbered by the load client."""
        ...

    def with_history(self, count: int, messages: int, bar: Bar = unseen) -> list[str]:
        """Create agents of the fast model with so many messages in their window."""
        ...

    def another(self, home: Path) -> "Target":
        """A second one of the same kind, in a directory of its own, not started."""
        ...


class Process:
    """A server process with its log in a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=measure.ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.pid = self._process.pid

    def wait_ready(self, port: int, path: str) -> None:
        """Wait until it answers requests. Raises `RuntimeError` with the end of its log if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if answers(port, path):
                return
            time.sleep(POLL_SECONDS)
        self.stop()
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it: politely, then not."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Relay:
    """The lower bound, `bench.relay`."""

    name = "relay"

    def __init__(self, home: Path, provider: Provider) -> None:
        self._home = home
        self._provider = provider
        self._database: embedded.Embedded | None = None
        self._process: Process | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def postgres_pid(self) -> int:
        return _postgres_pid(self._database)

    def start(self) -> None:
        make_home(self._home)
        self._database = embedded.start(self._home / "database")
        self.port = free_port()
        command = [sys.executable, "-m", "bench.relay", "--dsn", self._database.dsn]
        command += ["--provider", self._provider.base_url, "--port", str(self.port)]
        self._process = Process(command, environment(), self._home / "server.log")
        self._process.wait_ready(self.port, "/")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self._database is not None:
            self._database.stop()

    def creation(self, model: str) -> Request:
        return "/agents", _json({"name": f"bench-{NUMBER}", "model": model})

    def message(self, agent_id: str, *, stream: bool = False) -> Request:
        return "/relay", _json({"agent": agent_id, "text": _text(), "stream": stream})

    def with_history(self, count: int, messages: int, bar: Bar = unseen) -> list[str]:
        history = {"history": messages, "history_text": HISTORY_TEXT}
        request = ("/agents", _json({"name": f"bench-{NUMBER}", "model": FAST, **history}))
        made: list[str] = []
        with bar(f"{count} agents with {messages:,} messages each", count) as done:
            for _ in range(count):
                made += create(self, [request])
                done(1)
        return made

    def another(self, home: Path) -> Target:
        return Relay(home, self._provider)


class Wakeful:
    """This server, from this checkout, at default settings but for those given, as variables."""

    name = "ours"

    def __init__(self, home: Path, provider: Provider, settings: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._provider = provider
        self._settings = settings or {}
        self._database: embedded.Embedded | None = None
        self._process: Process | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def postgres_pid(self) -> int:
        return _postgres_pid(self._database)

    @property
    def dsn(self) -> str:
        """Its database, for rows that would take too long to make through the API, and for its statistics."""
        assert self._database is not None
        return self._database.dsn

    def start(self) -> None:
        make_home(self._home)
        self._database = embedded.start(self._home / "database")
        self.port = free_port()
        self._serve()

    def _serve(self) -> None:
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """Start the server on its database and port, without waiting until it answers."""
        assert self._database is not None
        env = environment(self._provider) | {"DATABASE_URL": self._database.dsn} | self._settings
        log = self._home / "server.log"
        self._process = Process(serve_command(self.port, self._home / "server"), env, log)

    def restart(self) -> None:
        """End the server, not its database, and start it again: every agent is out of memory then."""
        assert self._process is not None
        self._process.stop()
        self._serve()

    def kill(self) -> None:
        """End the server by SIGKILL. Its database goes on."""
        assert self._process is not None
        self._process.kill()

    def wait_ready(self) -> None:
        """Wait until it answers. Raises `RuntimeError` where it does not."""
        assert self._process is not None
        self._process.wait_ready(self.port, "/v1/health/")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self._database is not None:
            self._database.stop()

    def creation(self, model: str) -> Request:
        return "/v1/agents/", _json({"name": f"bench-{NUMBER}", "model": f"openai/{model}"})

    def message(self, agent_id: str, *, stream: bool = False) -> Request:
        body: dict[str, object] = {"messages": [{"role": "user", "content": _text()}]}
        if stream:
            body |= {"streaming": True, "stream_tokens": True}
        return f"/v1/agents/{agent_id}/messages", _json(body)

    def with_history(self, count: int, messages: int, bar: Bar = unseen) -> list[str]:
        """Create agents, stop the server, write their history into its database, start it again.

        Through the API a thousand messages would take a thousand turns. Nothing else may write to a live
        agent, so the server is down meanwhile.
        """
        assert self._process is not None
        assert self._database is not None
        body = {"name": f"bench-{NUMBER}", "model": f"openai/{FAST}", "context_window_limit": 1_000_000}
        agent_ids = create(self, [("/v1/agents/", _json(body))] * count)
        self._process.stop()
        with bar(f"{count} agents with {messages:,} messages each", count) as done:
            asyncio.run(seeding.histories(self._database.dsn, agent_ids, messages, done))
        self._serve()
        warm(self)
        return agent_ids

    def another(self, home: Path) -> Target:
        return Wakeful(home, self._provider)

    def variant(self, home: Path, settings: Mapping[str, str] | None = None) -> "Wakeful":
        """As `another`, under settings of its own: variables of its environment."""
        return Wakeful(home, self._provider, settings)


class Spent(Struct):
    """CPU seconds of a server and of its Postgres over a stretch of time."""

    server: float = 0.0
    postgres: float = 0.0


@contextlib.contextmanager
def spending(target: Target) -> Generator[Spent]:
    """Account the block to the target's processes; the figures are there when it ends."""
    spent = Spent()
    server, postgres = measure.cpu_seconds(target.pid), measure.family_cpu_seconds(target.postgres_pid)
    yield spent
    spent.server = measure.cpu_seconds(target.pid) - server
    spent.postgres = measure.family_cpu_seconds(target.postgres_pid) - postgres


class Created(Struct, frozen=True):
    """As much of a created agent as is needed."""

    id: str


def create(target: Target, requests: list[Request]) -> list[str]:
    """Create agents and return their ids."""
    outcome = load.run(Job(port=target.port, slots=[Slot(requests)], keep=True))
    check(outcome, of_text=False)
    return [msgspec.json.decode(body, type=Created).id for body in outcome.bodies]


def create_agents(target: Target, count: int, model: str = FAST) -> list[str]:
    """Create fresh agents of one model."""
    return create(target, [target.creation(model)] * count)


def warm(target: Target) -> None:
    """Let the target load and open what it does at first use: streams, and several agents at once."""
    agents = create_agents(target, 16)
    slots = [Slot([target.message(a), target.message(a, stream=True)] * 4) for a in agents]
    check(load.run(Job(port=target.port, slots=slots)))


def check(outcome: load.Outcome, *, of_text: bool = True) -> None:
    """Refuse to count failures as measurements. Raises `RuntimeError` if any request got no (text) answer."""
    failed = [t.status for t in outcome.timings if t.status != 200 or (of_text and not t.tokens)]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(outcome.timings)} requests failed: {sorted(set(failed))}")


def serve_command(port: int, data_dir: Path) -> list[str]:
    """The command that starts this server."""
    command = [sys.executable, "-m", "gateway.cli", "serve"]
    return [*command, "--port", str(port), "--data-dir", str(data_dir)]


def environment(provider: Provider | None = None) -> dict[str, str]:
    """This process's environment without anything that configures a server, a provider or a proxy.

    Modules are compiled once and kept, as in an installation, even where this process keeps none.
    """
    unwanted = ("WAKEFUL_", "LETTA_", "DATABASE_URL", "OPENAI_", "PG")
    endings = ("_API_KEY", "_PROXY")
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(unwanted) and not name.upper().endswith(endings)
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPYCACHEPREFIX"] = str(measure.ROOT / "bench" / "out" / "bytecode")
    env["WAKEFUL_DISCOVER"] = "off"  # other people's model servers on this machine are not meant
    if provider is not None:
        env |= {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-bench"}
    return env


def answers(port: int, path: str) -> bool:
    """Whether something on this port answers, and not with a server error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port that nothing listens on at this moment.

    From below the ports that Linux hands out by itself, where another process could be given the same one
    before it is used.
    """
    while True:
        port = random.choice(PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def make_home(home: Path) -> None:
    """Make a directory that the unprivileged user of Postgres can pass through."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)


def _postgres_pid(database: embedded.Embedded | None) -> int:
    assert database is not None
    assert database.pid is not None
    return database.pid


def _text() -> str:
    return f"#{NUMBER}# And what do you make of it?"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
