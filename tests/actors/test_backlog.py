"""Passages that were stored while their embedding model was away get vectors once it is back."""

import asyncio
from collections.abc import Iterable, Sequence

import anyio
import pytest
from msgspec.structs import replace

from actors import clock
from actors.backlog import Backlog
from actors.errors import DrainingError, EmbeddingError
from actors.llm.embed import Embedded
from bench.provider import Provider
from bench.replies import Reply
from storage import passages, unembedded
from storage.archive_records import Passage
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from tests.actors.worlds import World, world
from tests.storage import seeds
from tests.storage.libraries import passage

HANDLE = "test/lengths"


class Embedder:
    """Embeds by counting characters. `refused` texts get a 400, those that are `odd` no vector that can be
    used; while `away` it answers nothing."""

    def __init__(
        self, *, away: bool = False, refused: Iterable[str] = (), odd: Iterable[str] = (), off: bool = False
    ) -> None:
        self.away = away
        self.refused = frozenset(refused)
        self.odd = frozenset(odd)
        self.off = off
        self.asked: list[list[str]] = []

    def handle_for(self, named: str | None) -> str | None:
        return None if self.off else named or HANDLE

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, timeout: float = 30.0
    ) -> Embedded:
        self.asked.append(list(texts))
        if self.away:
            raise EmbeddingError("nobody there", retryable=True, status=503)
        if self.refused.intersection(texts) or "*" in self.refused:
            raise EmbeddingError("refused", refused=True, status=400)
        if self.odd.intersection(texts):
            raise EmbeddingError("sent an embedding that is no vector")
        return Embedded(model or "", 2, tuple((float(len(text)), 1.0) for text in texts))


class Desk:
    """A backlog on an embedder, and the passages that it works on."""

    def __init__(self, pool: Pool, embedder: Embedder, *, pace: float = 0.01) -> None:
        self.pool, self.embedder = pool, embedder
        self.wanted = asyncio.Event()
        self.told: list[list[str]] = []
        self.allowed = True
        self.backlog = Backlog(
            pool,
            embedder,  # type: ignore[arg-type]
            wanted=self.wanted,
            check=self._check,
            settled=self._settled,
            pace=pace,
        )

    def _check(self) -> None:
        if not self.allowed:
            raise DrainingError

    async def _settled(self, agent_ids: Iterable[str]) -> None:
        self.told.append(list(agent_ids))

    async def insert(self, *texts: str) -> tuple[str, list[Passage]]:
        async with connection(self.pool) as conn:
            agent = await seeds.agent(conn)
            return agent, await passages.insert_for_agent(conn, agent, [passage(t) for t in texts])

    async def vectors(self) -> dict[str, tuple[float, ...] | None]:
        async with connection(self.pool) as conn:
            rows = await conn.fetch("select text, embedding from passages order by text")
        return {row["text"]: row["embedding"] and tuple(row["embedding"]) for row in rows}

    async def waits(self) -> bool:
        async with connection(self.pool) as conn:
            return bool(await unembedded.waiting_archives(conn, limit=1))

    async def done(self) -> None:
        with anyio.fail_after(15):
            while await self.waits():
                await anyio.sleep(0.02)


async def test_what_waits_is_embedded_in_portions_and_its_agents_learn_the_model(pool: Pool) -> None:
    desk = Desk(pool, Embedder())
    agent, _ = await desk.insert(*(f"{n:03}" for n in range(130)))
    other, _ = await desk.insert("four")
    await desk.backlog.once()
    assert not await desk.waits()
    assert (await desk.vectors())["four"] == (4.0, 1.0)
    assert sorted(len(texts) for texts in desk.embedder.asked) == [1, 2, 64, 64]
    assert sorted(desk.told) == sorted([[agent], [other]])


async def test_a_model_that_is_away_rests_and_what_waits_is_embedded_when_it_is_back(pool: Pool) -> None:
    desk = Desk(pool, Embedder(away=True), pace=0.02)
    await desk.insert("x", "y")
    await desk.insert("z")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.backlog.run)
        with anyio.fail_after(15):
            while len(desk.embedder.asked) < 3:
                await anyio.sleep(0.01)
        desk.embedder.away = False
        await desk.done()
        tasks.cancel_scope.cancel()
    assert set(await desk.vectors()) == {"x", "y", "z"}
    assert None not in (await desk.vectors()).values()


async def test_a_model_that_rests_is_not_asked_whoever_looks(pool: Pool) -> None:
    desk = Desk(pool, Embedder(away=True), pace=60)
    await desk.insert("x")
    await desk.insert("y")
    for _ in range(5):
        await desk.backlog.once()
    assert len(desk.embedder.asked) == 1


async def test_a_rest_is_longer_after_each_failure_and_bounded(pool: Pool) -> None:
    desk = Desk(pool, Embedder(), pace=10)
    error = EmbeddingError("away", retryable=True, retry_after=1e9)
    seconds: list[float] = []
    for _ in range(8):
        desk.backlog._failed(HANDLE, error)
        seconds.append(desk.backlog._rests[HANDLE].seconds)
    assert seconds == [10, 20, 40, 80, 160, 300, 300, 300]
    assert desk.backlog._rests[HANDLE].until - clock.monotonic() <= 375
    assert 0 <= desk.backlog._pause() <= 375


async def test_texts_that_a_model_refuses_stay_without_and_harm_no_others(pool: Pool) -> None:
    desk = Desk(pool, Embedder(refused=("bad", "worse")))
    await desk.insert("good", "bad", "fine", "worse")
    await desk.backlog.once()
    vectors = await desk.vectors()
    assert {text for text, vector in vectors.items() if vector is None} == {"bad", "worse"}
    assert not await desk.waits()


async def test_texts_that_a_model_has_no_vector_for_harm_no_others(pool: Pool) -> None:
    desk = Desk(pool, Embedder(odd=("odd",)))
    await desk.insert("good", "odd", "fine")
    await desk.backlog.once()
    assert {text for text, vector in (await desk.vectors()).items() if vector is None} == {"odd"}
    assert not await desk.waits()


async def test_a_model_that_refuses_everything_condemns_no_text(pool: Pool) -> None:
    desk = Desk(pool, Embedder(refused="*"))
    await desk.insert("x", "y")
    await desk.backlog.once()
    assert await desk.waits()
    desk.embedder.refused = frozenset()
    desk.backlog._rests.clear()
    await desk.backlog.once()
    assert None not in (await desk.vectors()).values()


async def test_where_embeddings_are_off_nothing_is_asked(pool: Pool) -> None:
    desk = Desk(pool, Embedder(off=True))
    await desk.insert("x")
    await desk.backlog.once()
    assert (desk.embedder.asked, await desk.waits()) == ([], True)


async def test_a_host_that_may_not_write_stores_nothing(pool: Pool) -> None:
    desk = Desk(pool, Embedder())
    await desk.insert("x")
    desk.allowed = False
    with pytest.raises(DrainingError):
        await desk.backlog.once()
    assert await desk.vectors() == {"x": None}


async def test_it_ends_when_stopped_and_begins_nothing_more(pool: Pool) -> None:
    desk = Desk(pool, Embedder())
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.backlog.run)
            desk.backlog.stop()
    await desk.insert("x")
    await desk.backlog.once()
    assert desk.embedder.asked == []


async def test_a_crash_in_the_middle_leaves_the_rest_to_the_next_life(pool: Pool) -> None:
    class Dying(Embedder):
        async def embed(
            self, texts: Sequence[str], *, model: str | None = None, timeout: float = 30.0
        ) -> Embedded:
            if self.asked:
                raise RuntimeError("the process dies here")
            return await super().embed(texts, model=model, timeout=timeout)

    desk = Desk(pool, Dying())
    await desk.insert(*(f"{n:03}" for n in range(100)))
    with pytest.raises(RuntimeError):
        await desk.backlog.once()
    kept = await desk.vectors()
    assert sum(vector is not None for vector in kept.values()) == 64
    next_life = Desk(pool, Embedder())
    await next_life.backlog.once()
    assert [len(texts) for texts in next_life.embedder.asked] == [36]
    assert None not in (await next_life.vectors()).values()


async def test_a_fault_in_one_look_ends_no_host(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Embedder):
        async def embed(
            self, texts: Sequence[str], *, model: str | None = None, timeout: float = 30.0
        ) -> Embedded:
            self.asked.append(list(texts))
            raise ValueError("nobody expected this")

    desk = Desk(pool, Broken())
    await desk.insert("x")
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.backlog.run)
            while len(desk.embedder.asked) < 2:
                desk.wanted.set()
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert "passages not embedded" in caplog.text


# --- whole agents and the scripted provider ---------------------------------------------------------

AWAY = Reply(embeddings=True, status=404, repeat=1)  # an answer that is not tried again at once
ARCHIVE = {"tool_calls": [{"name": "archival_memory_insert", "arguments": {"content": "Kettles sing in G."}}]}


async def embedded(w: World, text: str) -> Passage:
    """Wait until the one passage of this text has its vector."""
    with anyio.fail_after(30):
        while True:
            async with connection(w.pool) as conn:
                row = await conn.fetchrow(
                    "select id from passages where text = $1 and dimensions is not null", text
                )
                if row is not None:
                    return await passages.get(conn, row["id"], organization_id=DEFAULT_ORGANIZATION)
            await anyio.sleep(0.05)


async def test_what_an_agent_archives_while_its_model_is_away_is_found_by_meaning_later(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=("archival_memory_insert",), embedding="openai/embedder")
        await provider.script([replace(AWAY, repeat=2), ARCHIVE, {"text": "done"}])
        await w.ask(agent_id)
        stored = await embedded(w, "Kettles sing in G.")
        assert stored.embedding_model == "openai/embedder"
        actor = await w.host._population.wake(agent_id)
        assert actor.holdings.embedding == "openai/embedder"


async def test_what_waited_over_a_restart_is_embedded_at_the_start(pool: Pool, provider: Provider) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent(more_tools=("archival_memory_insert",), embedding="openai/embedder")
        await provider.script([replace(AWAY, repeat=50), ARCHIVE, {"text": "done"}])
        await w.ask(agent_id)
    await provider.reset()
    async with world(pool, provider) as w:
        assert (await embedded(w, "Kettles sing in G.")).vector is not None
