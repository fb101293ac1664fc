"""From kill -9 in the middle of an answer to the next answer, and whether anything was lost or repeated."""

import time
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import percentile
from bench.plain import Plain, say
from bench.targets import Wakeful

TOKENS, DELAY_MS, GAP_MS = 60, 100, 10
MODEL = f"fixed-t{TOKENS}-d{DELAY_MS}-g{GAP_MS}"
MODEL_S = (DELAY_MS + (TOKENS - 1) * GAP_MS) / 1000  # that one answer takes at least
KILLED_AFTER_S = DELAY_MS / 1000 + TOKENS * GAP_MS / 2000  # in the middle of the first answer
POLL_S = 0.01
DEADLINE_S = 60.0
ANSWER = "".join(f"word{i} " for i in range(TOKENS))


class Run(Struct, frozen=True):
    """As much of a run as is needed."""

    id: str
    status: str = ""


class Said(Struct, frozen=True):
    """A message of an agent, as Letta shows it."""

    message_type: str
    content: str = ""


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Kill a server of its own while several agents answer and a second message waits for each.

    After the restart, as soon as the server answers, one of them is sent a third message; the clock runs
    from the kill. What the model takes, at least, for the answers that came until then is shown apart.
    """
    own = target.variant(bench.home / f"killed-{time.monotonic_ns()}")
    own.start()
    try:
        targets.warm(own)
        began = time.monotonic()
        own.restart()
        politely = time.monotonic() - began
        targets.warm(own)
        found = [_kill(own, bench.effort.of(8, 3)) for _ in range(bench.effort.of(3, 1))]
    finally:
        own.stop()
    middle = {key: percentile([one[key] for one in found], 50) for key in found[0]}
    middle |= {"model": MODEL_S, "model_of_three": 3 * MODEL_S, "restart": politely}
    return middle | {"faults": sum(one["faults"] for one in found)}


def _kill(target: Wakeful, count: int) -> dict[str, float]:
    """Kill it once; return seconds from the kill."""
    agents = targets.create_agents(target, count, MODEL)
    with Plain(target.port) as client:
        runs = {agent: _send(client, agent, "first") for agent in agents}
        time.sleep(KILLED_AFTER_S)
        waiting = [_send(client, agent, "second") for agent in agents]
    target.kill()
    killed = time.monotonic()
    target.begin()
    target.wait_ready()
    ready = time.monotonic() - killed
    chosen = agents[0]
    with Plain(target.port) as client:
        third = _send(client, chosen, "third")
        ended = _until_over(client, runs[chosen], killed)
        answered = _until_over(client, third, killed)
        everything = max(_until_over(client, run, killed) for run in (*runs.values(), *waiting))
        said = {agent: _said(client, agent) for agent in agents}
    expected = {agent: ["first", "second"] + ["third"] * (agent == chosen) for agent in agents}
    return {
        "ready": ready,
        "interrupted": ended,
        "next": answered,
        "own": answered - 3 * MODEL_S,
        "all": everything,
        "faults": sum(faults(said[agent], expected[agent], ANSWER) for agent in agents),
    }


def _said(client: Plain, agent: str) -> list[Said]:
    """All that an agent's conversation holds, in its order."""
    return client.read(f"/v1/agents/{agent}/messages", list[Said], limit=100, order="asc")


def faults(said: Sequence[Said], sent: Sequence[str], answer: str) -> int:
    """Count what is lost, repeated or out of order: each text is there once, then its answer."""
    kinds = ("user_message", "assistant_message")
    spoken = [one.content.strip() for one in said if one.message_type in kinds]
    expected = [text.strip() for one in sent for text in (one, answer)]
    if sorted(spoken) == sorted(expected):
        return sum(a != b for a, b in zip(spoken, expected, strict=True))
    there, wanted = Counter(spoken), Counter(expected)
    return (there - wanted).total() + (wanted - there).total()


def _send(client: Plain, agent: str, text: str) -> str:
    """Send a message and return its run once it is accepted."""
    body = client.post(f"/v1/agents/{agent}/messages/async", say(text))
    return msgspec.json.decode(body, type=Run).id


def _until_over(client: Plain, run_id: str, since: float) -> float:
    """Wait for the end of a run and return its second, from `since`. Raises `RuntimeError` if it failed."""
    deadline = time.monotonic() + DEADLINE_S
    while (run := client.read(f"/v1/runs/{run_id}", Run)).status in ("created", "running"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{run_id} is {run.status} after {DEADLINE_S:g} s")
        time.sleep(POLL_S)
    if run.status != "completed":
        raise RuntimeError(f"{run_id} is {run.status}")
    return time.monotonic() - since


CASE = Case(
    name="killed",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=2,  # each kills three times
    run_s={"ours": 26},
    rows=(
        Row(key="ready", title="kill -9 and restart: until the server answers", unit="s", limit="restart"),
        Row(
            key="interrupted", title="kill -9: until the end of the interrupted run", unit="s", limit="model"
        ),
        Row(
            key="next",
            title="kill -9: until the next answer, after two that were owed",
            unit="s",
            limit="model_of_three",
        ),
        Row(key="own", title="of that beyond what the model takes for the three", unit="s", limit="restart"),
        Row(
            key="all",
            title="kill -9: until all agents have answered what was accepted",
            unit="s",
            limit="model_of_three",
        ),
        Row(
            key="restart",
            title="an orderly stop and start, until the server answers",
            unit="s",
            reference=True,
        ),
        Row(key="faults", title="messages lost, repeated or out of order", figure=0),
    ),
)
