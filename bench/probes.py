"""The guard's measurements: CPU per piece of this server beside that of a bare one, in pairs, in seconds.

A load without pauses is given to both in turns, ABAB, because at once they would take the machine from each
other. A paced load is given to both at once: nothing meets both more equally than the same moment.
"""

import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from bench import load, targets
from bench.bare import GAP_S
from bench.baselines import Pair
from bench.load import BUCKET_NS, Job, Loading, Slot
from bench.measure import cpu_seconds
from bench.readers import Readers
from bench.targets import Process, Target, environment, free_port

AGENTS = 32
STEP_PAIRS, STEP_MESSAGES = 14, 40
CROWD_PAIRS, CROWD_S = 8, 0.5
PACED_PAIRS, PACED_S = 6, 0.5
STARTS_S = 0.8  # the streams' starts are spread over this, so that tokens do not come in step
SETTLE_S = 0.6
WATCHERS = 100
MESSAGE = "Go on."

Pairs = Mapping[str, list[Pair]]


class Stage(Struct, frozen=True):
    """What the probes measure, started and warm: this server, and the relay. `home` is for logs."""

    ours: Target
    relay: Target
    home: Path


class Probe(Struct, frozen=True, kw_only=True):
    """A measurement and the titles of the ratios it gives."""

    name: str
    titles: Mapping[str, str]
    measure: Callable[[Stage], Pairs]


def step(stage: Stage) -> Pairs:
    """Blocking messages, one at a time."""
    both = {target.name: _awake(target) for target in (stage.ours, stage.relay)}

    def send(target: Target) -> int:
        requests = [both[target.name][i % AGENTS] for i in range(STEP_MESSAGES)]
        return _sent(Job(port=target.port, slots=[Slot(requests)]))

    server, postgres = _in_turns(stage, send, pairs=STEP_PAIRS)
    return {"server_1": server, "postgres_1": postgres}


def crowd(stage: Stage) -> Pairs:
    """Blocking messages to 32 agents at once, as fast as they go.

    Not of Postgres: how many commits it is given at once depends on what else the machine does, so that on a
    busy one its ratio spread by a third.
    """
    both = {target.name: _awake(target) for target in (stage.ours, stage.relay)}

    def send(target: Target) -> int:
        slots = [Slot([request]) for request in both[target.name]]
        return _sent(Job(port=target.port, slots=slots, seconds=CROWD_S))

    server, _ = _in_turns(stage, send, pairs=CROWD_PAIRS)
    return {"server_32": server}


def token(stage: Stage) -> Pairs:
    """Streams of both at once, at 20 ms a token, set-up and end excluded."""
    tokens = round((STARTS_S + SETTLE_S + PACED_PAIRS * PACED_S) / GAP_S) + 50
    pids = (stage.ours.pid, stage.relay.pid)
    loads: list[Loading] = []
    for target in (stage.ours, stage.relay):
        agents = targets.create_agents(target, AGENTS, f"fixed-t{tokens}-d100-g{GAP_S * 1000:.0f}")
        slots = [
            Slot([target.message(agent, stream=True)], start_s=STARTS_S * i / AGENTS)
            for i, agent in enumerate(agents)
        ]
        loads.append(Loading(Job(port=target.port, slots=slots)))
    time.sleep(STARTS_S + SETTLE_S)
    marks = [(time.monotonic_ns(), *_mark(pids))]
    for _ in range(PACED_PAIRS):
        time.sleep(PACED_S)
        marks.append((time.monotonic_ns(), *_mark(pids)))
    outcomes = [loading.finish() for loading in loads]
    for outcome in outcomes:
        targets.check(outcome)
    pairs: list[Pair] = []
    for before, after in pairwise(marks):
        # What came, not what was due: a machine that is too busy keeps the pace of neither.
        came = [_came(outcome, before[0], after[0]) for outcome in outcomes]
        if all(came):
            pairs.append(Pair((after[1] - before[1]) / came[0], (after[2] - before[2]) / came[1]))
    if not pairs:
        raise RuntimeError("no token came")
    return {"token": pairs}


def _came(outcome: load.Outcome, began_ns: int, ended_ns: int) -> int:
    """Tokens that the client saw in a stretch, to the slices in which it counts them."""
    first, last = began_ns // BUCKET_NS, ended_ns // BUCKET_NS
    return sum(count for bucket, count in outcome.tokens_by_bucket.items() if first <= bucket < last)


def frame(stage: Stage) -> Pairs:
    """Frames of one stream to 100 websockets, and as many of a bare uvicorn to as many, at once."""
    tokens = round((3 * SETTLE_S + PACED_PAIRS * PACED_S) / GAP_S) + 250
    agents = targets.create_agents(stage.ours, 1, f"fixed-t{tokens}-d100-g{GAP_S * 1000:.0f}")
    with Readers() as readers:
        readers.open(stage.ours.port, [[f"conv:{agents[0]}"]] * WATCHERS)
        readers.say(agents, MESSAGE)
        time.sleep(SETTLE_S)
        pairs = _beside_bare(stage, readers, readers.count().sample)
        readers.cancel()
    return {"frame": pairs}


def _beside_bare(stage: Stage, readers: Readers, sample: str) -> list[Pair]:
    """Have a bare application send the same frame at the same pace while the readers get theirs."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", "--port", str(port), "--text", sample]
    process = Process(command, environment(), stage.home / "bare.log")
    try:
        process.wait_ready(port, "/")
        with Readers() as plain:
            plain.open_plain(port, ["/0"] * WATCHERS)
            time.sleep(SETTLE_S)
            pids, pairs = (stage.ours.pid, process.pid), list[Pair]()
            before = *_mark(pids), readers.count().tokens, plain.count().tokens
            for _ in range(PACED_PAIRS):
                time.sleep(PACED_S)
                now = *_mark(pids), readers.count().tokens, plain.count().tokens
                if not (now[2] and now[3]):
                    raise RuntimeError("no token came")
                pairs.append(Pair((now[0] - before[0]) / now[2], (now[1] - before[1]) / now[3]))
                before = now
            return pairs
    finally:
        process.stop()


def _awake(target: Target) -> list[targets.Request]:
    """Create agents, let each answer once, and return the request that sends each another message."""
    requests = [target.message(agent) for agent in targets.create_agents(target, AGENTS)]
    targets.check(load.run(Job(port=target.port, slots=[Slot([request]) for request in requests])))
    return requests


def _in_turns(stage: Stage, send: Callable[[Target], int], *, pairs: int) -> tuple[list[Pair], list[Pair]]:
    """Let both answer in turns; CPU per message of the servers, and of their databases."""
    server, postgres = list[Pair](), list[Pair]()
    for _ in range(pairs):
        ours, relay = _spent(stage.ours, send), _spent(stage.relay, send)
        server.append(Pair(ours.server, relay.server))
        postgres.append(Pair(ours.postgres, relay.postgres))
    return server, postgres


def _spent(target: Target, send: Callable[[Target], int]) -> targets.Spent:
    """CPU seconds per message."""
    with targets.spending(target) as spent:
        messages = send(target)
    return targets.Spent(spent.server / messages, spent.postgres / messages)


def _sent(job: Job) -> int:
    """Do a job of messages; how many were answered."""
    outcome = load.run(job)
    targets.check(outcome)
    return len(outcome.timings)


def _mark(pids: tuple[int, int]) -> tuple[float, float]:
    return cpu_seconds(pids[0]), cpu_seconds(pids[1])


PROBES = (
    Probe(
        name="step",
        titles={
            "server_1": "server CPU per message, one at a time / relay",
            "postgres_1": "Postgres CPU per message, one at a time / relay",
        },
        measure=step,
    ),
    Probe(
        name="crowd",
        titles={
            "server_32": "server CPU per message, 32 agents / relay",
        },
        measure=crowd,
    ),
    Probe(name="token", titles={"token": "server CPU per token, 32 streams / relay"}, measure=token),
    Probe(
        name="frame",
        titles={"frame": "CPU per websocket frame, 100 watchers / bare uvicorn"},
        measure=frame,
    ),
)
