"""What a search over REST costs by how much there is: of archival passages, and of an agent's messages.

In a figure are the request, the server's call to the model that embeds the words and the statements that find
and rank, of the server's process and of Postgres with all its children. Not in it are the model, which is the
provider's process; the rows, which are written while the server is down, with vacuum, analysis and a
checkpoint at the end; and autovacuum, which is off, because what it does for them would come when it comes.

Beside each stands the limit: what a bare statement costs on a connection of its own, which finds as many rows
by the same index, and neither ranks them by two measures nor checks who asks.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from bench import measure as machine
from bench import seeding, targets, wire
from bench.case import NO_PHASE, Bench, Case, Figures, Row
from bench.load import NUMBER
from bench.measure import percentile
from bench.plain import Plain
from bench.targets import FAST, Wakeful
from storage import passage_search
from storage.pool import Conn, connect

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
        asyncio.run(_alone(own.dsn))
        sizes = QUICK_SIZES if bench.effort.quick else SIZES
        agents = dict(zip(sizes, _agents(own, len(sizes)), strict=True))
        questions = seeding.questions(WARM + bench.effort.of(100, 10))
        figures: dict[str, float] = {}
        for size, agent in agents.items():
            _fill(own, bench, agents, size)
            bench.tell(f"search, {size:,}")
            for kind, found in _search(own, agent, size, questions).items():
                figures |= {f"{kind}_{name}_{size}": value for name, value in found.items()}
        bench.tell(f"search, {sizes[0]:,} beside {sizes[-1]:,}")
        beside = _search(own, agents[sizes[0]], sizes[0], questions)
        figures |= {f"{kind}_beside": found["cpu"] for kind, found in beside.items()}
        figures |= {f"{kind}_bare_beside": found["bare_cpu"] for kind, found in beside.items()}
    finally:
        own.stop()
    return figures


async def _alone(dsn: str) -> None:
    """Let Postgres do nothing by itself that costs CPU."""
    conn = await connect(dsn)
    try:
        await conn.execute("alter system set autovacuum = off")
        await conn.execute("select pg_reload_conf()")
    finally:
        await conn.close()


def _fill(target: Wakeful, bench: Bench, agents: dict[int, str], size: int) -> None:
    """Write an agent's rows while the server is down: it would make the index itself, and hold them up."""
    target.kill()
    bench.tell(f"search, seeding {size:,}")
    indexed = sum(other for other in agents if other <= size)
    with bench.bar(f"{size:,} passages, their index, {size:,} messages", 2 * size + indexed) as done:
        asyncio.run(seeding.libraries(target.dsn, {agents[size]: size}, done))
        asyncio.run(seeding.conversations(target.dsn, {agents[size]: size}, done))
    target.begin()
    target.wait_ready()
    targets.warm(target)


def _search(target: Wakeful, agent: str, size: int, questions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Search both ways, and by bare statements."""
    with Plain(target.port) as client:
        asks = {"archival": _passages(client, agent), "recall": _messages(client, agent)}
        found = {kind: _timed(target, ask, questions) for kind, ask in asks.items()}
    bare = asyncio.run(_bare(target.dsn, agent, size, questions))
    return {kind: figures | bare[kind] for kind, figures in found.items()}


async def _bare(dsn: str, agent: str, size: int, questions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Ask Postgres alone for as many rows; return milliseconds per statement, its client's included."""
    vector = f"vector({seeding.DIMENSIONS})"
    one_by_one = size <= passage_search.INDEXED_FROM
    order = "p.embedding <=> $2" if one_by_one else f"p.embedding::{vector} <=> $2::{vector}"
    conn = await connect(dsn)
    try:
        await conn.execute("set enable_seqscan = off")
        archive: str = await conn.fetchval(
            "select archive_id from archives_agents where agent_id = $1", agent
        )
        meant = [(archive, wire.embed(words, seeding.DIMENSIONS)) for words in questions]
        said = [(agent, words) for words in questions]
        return {
            "archival": await _stated(
                conn, _NEAREST.format(order=order, limit=LIMIT, dimensions=seeding.DIMENSIONS), meant
            ),
            "recall": await _stated(conn, _MATCHING.format(limit=LIMIT), said),
        }
    finally:
        await conn.close()


_NEAREST = """
select p.id, p.text, p.created_at from passages p
 where p.archive_id = $1 and p.dimensions = {dimensions} order by {order} limit {limit}
"""
_MATCHING = """
select m.id, m.content, m.created_at from messages m join message_words w using (conversation_id, position)
 where m.agent_id = $1 and w.words @@ (('''' || $1::text || '''')::tsquery
                                        && replace(plainto_tsquery('english', $2)::text, '&', '|')::tsquery)
 limit {limit}
"""


async def _stated(conn: Conn, statement: str, arguments: Sequence[tuple[object, ...]]) -> dict[str, float]:
    backend: int = await conn.fetchval("select pg_backend_pid()")
    for values in arguments[:WARM]:
        await conn.fetch(statement, *values)
    times: list[float] = []
    before = machine.cpu_seconds(backend) + time.process_time()
    for values in arguments[WARM:]:
        began = time.monotonic()
        await conn.fetch(statement, *values)
        times.append((time.monotonic() - began) * 1e3)
    cpu = machine.cpu_seconds(backend) + time.process_time() - before
    return {"bare_cpu": cpu / len(times) * 1e3, "bare_p50": percentile(times, 50)}


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


def _parts(kind: str, title: str, size: int) -> tuple[Row, ...]:
    whole = f"{kind}_cpu_{size}"
    return tuple(
        Row(key=f"{kind}_{key}_{size}", title=f"{title}: of that, {part}", unit="ms", limit=whole)
        for key, part in (("server", "the server's"), ("postgres", "Postgres's"))
    )


def _rows(kind: str, what: str, asked: float | None) -> tuple[Row, ...]:
    rows: list[Row] = []
    for size in SIZES:
        cpu, bare, figure = f"{kind}_cpu_{size}", f"{kind}_bare_cpu_{size}", asked if size == AIM else None
        title = f"{what}, {size:,}"
        rows += (
            Row(
                key=cpu,
                title=f"{title}: server and database CPU",
                unit="ms",
                limit=bare,
                figure=figure,
                within=NO_PHASE,
                lever="the larger of its two parts, the rows below",
            ),
            Row(key=bare, title=f"{title}: a bare statement's CPU", unit="ms", reference=True),
            *(_parts(kind, title, size) if size == AIM else ()),
            Row(key=f"{kind}_p50_{size}", title=f"{title}: p50", unit="ms", limit=f"{kind}_bare_p50_{size}"),
        )
    title = f"{what}, {SIZES[0]:,} beside {SIZES[-1]:,} of others: CPU"
    return (*rows, Row(key=f"{kind}_beside", title=title, unit="ms", limit=f"{kind}_bare_beside"))


CASE = Case(
    name="search",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=1,
    run_s={"ours": 180},
    rows=(
        *_rows("archival", "archival search, passages", 8),
        *_rows("recall", "search of messages", None),
    ),
)
