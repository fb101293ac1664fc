"""What a search over REST costs by how much there is: of archival passages, and of an agent's messages."""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from bench import seeding, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import NUMBER
from bench.measure import percentile
from bench.plain import Plain
from bench.targets import FAST, Wakeful

SIZES = (100, 1_000, 10_000, 100_000)
QUICK_SIZES = (100, 1_000)
AIM = 10_000  # passages, for which a limit was set
LIMIT = 5  # hits asked for
WARM = 5  # searches before those that count


def measure(target: Wakeful, bench: Bench) -> Figures:
    """Search one agent after another, each larger; the database holds those before it. Then the first again.

    CPU is the server's and the database's; the model that embeds the query is the provider, which is not
    counted, while the wait for it is in the time.
    """
    own = target.variant(bench.home / f"search-{time.monotonic_ns()}")
    own.start()
    try:
        sizes = QUICK_SIZES if bench.effort.quick else SIZES
        agents = dict(zip(sizes, _agents(own, len(sizes)), strict=True))
        questions = seeding.questions(WARM + bench.effort.of(100, 10))
        figures: dict[str, float] = {}
        for size, agent in agents.items():
            _fill(own, agent, size)
            for kind, found in _search(own, agent, questions).items():
                figures |= {f"{kind}_{name}_{size}": value for name, value in found.items()}
        beside = _search(own, agents[sizes[0]], questions)
        figures |= {f"{kind}_beside": found["cpu"] for kind, found in beside.items()}
    finally:
        own.stop()
    return figures


def _fill(target: Wakeful, agent: str, size: int) -> None:
    """Write an agent's rows while the server is down: it would make the index itself, and hold them up."""
    target.kill()
    asyncio.run(seeding.libraries(target.dsn, {agent: size}))
    asyncio.run(seeding.conversations(target.dsn, {agent: size}))
    target.begin()
    target.wait_ready()
    targets.warm(target)


def _search(target: Wakeful, agent: str, questions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Search both ways."""
    with Plain(target.port) as client:
        asks = {"archival": _passages(client, agent), "recall": _messages(client, agent)}
        return {kind: _timed(target, ask, questions) for kind, ask in asks.items()}


def _agents(target: Wakeful, count: int) -> list[str]:
    body = {"name": f"search-{NUMBER}", "model": f"openai/{FAST}", "embedding": seeding.MODEL}
    return targets.create(target, [("/v1/agents/", msgspec.json.encode(body).decode())] * count)


def _passages(client: Plain, agent: str) -> Callable[[str], int]:
    path = f"/v1/agents/{agent}/archival-memory/search"
    return lambda words: msgspec.json.decode(client.get(path, query=words, top_k=LIMIT))["count"]


def _messages(client: Plain, agent: str) -> Callable[[str], int]:
    def ask(words: str) -> int:
        body = {"query": words, "agent_id": agent, "limit": LIMIT}
        return len(msgspec.json.decode(client.post("/v1/messages/search", body)))

    return ask


def _timed(target: Wakeful, ask: Callable[[str], int], questions: Sequence[str]) -> dict[str, float]:
    """Ask everything; return milliseconds per search. Raises `RuntimeError` where most found nothing."""
    for words in questions[:WARM]:
        ask(words)
    times: list[float] = []
    hits = 0
    with targets.spending(target) as spent:
        for words in questions[WARM:]:
            began = time.monotonic()
            hits += ask(words) > 0
            times.append((time.monotonic() - began) * 1e3)
    if hits * 2 < len(times):
        raise RuntimeError(f"only {hits} of {len(times)} searches found something")
    return {
        "p50": percentile(times, 50),
        "p99": percentile(times, 99),
        "server": spent.server / len(times) * 1e3,
        "postgres": spent.postgres / len(times) * 1e3,
        "cpu": (spent.server + spent.postgres) / len(times) * 1e3,
    }


def _rows(kind: str, what: str, limit: float | None) -> tuple[Row, ...]:
    rows: list[Row] = []
    for size in SIZES:
        title = f"{what}, {size:,}: server and database CPU"
        rows.append(
            Row(key=f"{kind}_cpu_{size}", title=title, unit="ms", figure=limit if size == AIM else None)
        )
        rows.append(Row(key=f"{kind}_p50_{size}", title=f"{what}, {size:,}: p50", unit="ms"))
    return tuple(rows)


CASE = Case(
    name="search",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=1,
    rows=(
        *_rows("archival", "archival search, passages", 8),
        *_rows("recall", "search of messages", None),
        Row(key="archival_beside", title="archival search, 100 beside 100,000 of others: CPU", unit="ms"),
        Row(key="recall_beside", title="search of messages, 100 beside 100,000 of others: CPU", unit="ms"),
    ),
)
