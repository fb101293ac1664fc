"""Memory of an idle websocket connection that has said who it is and follows two channels.

Beside how many are opened a second stands what a bare uvicorn opens, whose connections say nothing.
"""

import sys
import time

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import memory
from bench.readers import Readers
from bench.targets import Process, Target, environment, free_port

SETTLE_S = 1.5
AGENTS = 20
BARE = 1000  # connections to a bare server
WARM = 200  # connections before the first reading, so that what is loaded once is not counted


def measure(target: Target, bench: Bench) -> Figures:
    """Measure a server of its own before and after its connections; the agents are in memory before."""
    fresh = target.another(bench.home / f"ws-memory-{target.name}-{time.monotonic_ns()}")
    fresh.start()
    try:
        targets.warm(fresh)
        agents = targets.create_agents(fresh, AGENTS)
        count = bench.effort.of(5000, 500)
        with Readers() as readers:
            readers.open(fresh.port, _channels(agents, WARM))
            readers.leave()
            time.sleep(SETTLE_S)
            before = memory(fresh.pid)
            began = time.monotonic()
            readers.open(fresh.port, _channels(agents, count))
            opening_s = time.monotonic() - began
            time.sleep(SETTLE_S)
            after = memory(fresh.pid)
            lost = readers.count().lost
    finally:
        fresh.stop()
    if lost:
        raise RuntimeError(f"{lost} of {count} connections were lost")
    return {
        "connection": (after.rss_kib - before.rss_kib) / count,
        "connection_uss": (after.uss_kib - before.uss_kib) / count,
        "opened": count / opening_s,
        "bare": _bare(bench, min(BARE, count)),
    }


def _bare(bench: Bench, count: int) -> float:
    """Connections that a bare application opens a second."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", "-", "--gap", "0"]
    process = Process(command, environment(), bench.home / "bare.log")
    try:
        process.wait_ready(port, "/")
        with Readers() as readers:
            readers.open_plain(port, ["/0"] * WARM)
            began = time.monotonic()
            readers.open_plain(port, ["/0"] * count)
            return count / (time.monotonic() - began)
    finally:
        process.stop()


def _channels(agents: list[str], count: int) -> list[list[str]]:
    """Each connection follows one agent: its conversation and its state."""
    chosen = [agents[i % len(agents)] for i in range(count)]
    return [[f"conv:{agent}", f"agent:{agent}:state"] for agent in chosen]


CASE = Case(
    name="ws_memory",
    measure=measure,
    on=("ours",),
    most_runs=1,  # it starts a server, and opens 5,000 connections to it
    run_s={"ours": 20},
    rows=(
        Row(
            key="connection", title="websocket: memory per idle connection, 2 channels", unit="KiB", figure=32
        ),
        Row(key="connection_uss", title="the same, private pages only", unit="KiB", limit="connection"),
        Row(key="opened", title="connections opened and subscribed per second", limit="bare", at_least=True),
        Row(key="bare", title="connections that a bare uvicorn opens per second", reference=True),
    ),
)
