"""From the command to the first answer, with the Postgres that the server starts itself."""

import http.client
import time
from pathlib import Path

import msgspec

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.targets import FAST, Created, Process, Target

AGENT = msgspec.json.encode({"name": "first", "model": f"openai/{FAST}"})
MESSAGE = msgspec.json.encode({"messages": [{"role": "user", "content": "Are you there?"}]})


def measure(target: Target, bench: Bench) -> Figures:  # noqa: ARG001 - it starts servers of its own
    """Start with a data directory that does not exist, then again with the one that is there now."""
    home = bench.home / f"start-{time.monotonic_ns()}"
    targets.make_home(home)
    new, agent_id = _first_answer(bench, home, None)
    existing, _ = _first_answer(bench, home, agent_id)
    return {"new": new, "existing": existing}


def _first_answer(bench: Bench, home: Path, agent_id: str | None) -> tuple[float, str]:
    """Start, create an agent where none is given, get one answer, and stop."""
    port = targets.free_port()
    began = time.monotonic()
    command = targets.serve_command(port, home / "data")
    process = Process(command, targets.environment(bench.provider), home / "server.log")
    try:
        process.wait_ready(port, "/v1/health/")
        if agent_id is None:
            agent_id = msgspec.json.decode(_post(port, "/v1/agents/", AGENT), type=Created).id
        answer = _post(port, f"/v1/agents/{agent_id}/messages", MESSAGE)
        seconds = time.monotonic() - began
        assert b"word0" in answer, "the first answer is the model's"
    finally:
        process.stop()
    return seconds, agent_id


def _post(port: int, path: str, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"POST {path} was answered {response.status}: {answer[:300]!r}")
        return answer
    finally:
        connection.close()


CASE = Case(
    name="start",
    measure=measure,
    on=("ours",),
    most_runs=3,  # each starts and ends two servers
    run_s={"ours": 6.5},
    rows=(
        Row(key="existing", title="start to first answer, data directory exists", unit="s", figure=2),
        Row(key="new", title="start to first answer, data directory new", unit="s", figure=5),
    ),
)
