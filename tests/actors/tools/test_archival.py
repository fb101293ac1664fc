import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.errors import EmbeddingError
from actors.llm.embed import Embedded
from actors.tools import archival
from actors.tools.reading import Reader
from actors.tools.results import ToolError
from storage import passages
from storage.archive_records import Passage
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from tests.storage import seeds

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
NEAR, FAR = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


class Vectors:
    """Embeddings that know a few texts; others are far from everything."""

    def __init__(self, *near: str, error: EmbeddingError | None = None, off: bool = False) -> None:
        self.near = near
        self.error = error
        self.off = off
        self.models: list[str | None] = []

    def handle_for(self, named: str | None) -> str | None:
        return None if self.off else named or "test/v"

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, timeout: float = 30.0
    ) -> Embedded:
        assert not self.off
        self.models.append(model)
        if self.error is not None:
            raise self.error
        return Embedded(model or "test/v", 3, tuple(NEAR if text in self.near else FAR for text in texts))


def reader(pool: Pool, agent_id: str, vectors: Vectors, **more: Any) -> Reader:
    return Reader(
        pool=pool,
        agent_id=agent_id,
        organization_id=DEFAULT_ORGANIZATION,
        run_id="run-1",
        embeddings=vectors,  # type: ignore[arg-type]
        **{"timezone": "UTC", "now": NOW, "count": lambda text: len(text.split()), **more},
    )


async def agent(pool: Pool) -> str:
    async with connection(pool) as conn:
        return await seeds.agent(conn)


async def archive(pool: Pool, agent_id: str, vectors: Vectors, content: str, **more: Any) -> Passage:
    """Do what a step does with a call, and return the passage."""
    at = more.pop("at", NOW)
    passage, _ = await archival.passage_of(
        {"content": content, **more}, reader(pool, agent_id, vectors, now=at)
    )
    async with connection(pool) as conn:
        await passages.insert_for_agent(conn, agent_id, [passage])
    return passage


async def found(
    pool: Pool, agent_id: str, vectors: Vectors, query: str, *, timezone: str = "UTC", **more: Any
) -> list[dict[str, Any]]:
    text = await archival.search({"query": query, **more}, reader(pool, agent_id, vectors, timezone=timezone))
    return json.loads(text)


async def contents(pool: Pool, agent_id: str, vectors: Vectors, query: str, **more: Any) -> list[str]:
    return [hit["content"] for hit in await found(pool, agent_id, vectors, query, **more)]


async def test_a_passage_is_found_by_its_meaning(pool: Pool) -> None:
    vectors = Vectors("the heating works again", "when was the boiler mended?")
    agent_id = await agent(pool)
    passage = await archive(
        pool, agent_id, vectors, " the heating works again ", tags=["house", " house", ""]
    )
    await archive(pool, agent_id, vectors, "window seats")
    first, *_ = await found(pool, agent_id, vectors, "when was the boiler mended?")
    assert first["id"] == passage.id
    assert first["content"] == "the heating works again"
    assert first["tags"] == ["house"]
    assert first["timestamp"] == "2026-03-15T12:00:00+00:00"
    assert first["relevance"]["vector_rank"] == 1
    assert first["relevance"]["search_mode"] == "hybrid"
    assert first["relevance"]["rrf_score"] > 0


async def test_the_model_is_told_the_passage_s_id(pool: Pool) -> None:
    agent_id = await agent(pool)
    passage, said = await archival.passage_of({"content": "x"}, reader(pool, agent_id, Vectors()))
    assert said == passage.id
    assert passage.vector == FAR
    assert passage.embedding_model == "test/v"
    assert passage.created_at == NOW


async def test_the_archive_s_model_embeds_passages_and_queries(pool: Pool) -> None:
    agent_id, vectors = await agent(pool), Vectors()
    asking = reader(pool, agent_id, vectors, embedding="other/model")
    passage, _ = await archival.passage_of({"content": "x"}, asking)
    await archival.search({"query": "x"}, asking)
    assert passage.embedding_model == "other/model"
    assert vectors.models == ["other/model", "other/model"]


@pytest.mark.parametrize(
    "vectors",
    [
        Vectors(off=True),
        Vectors(error=EmbeddingError("it is away", retryable=True)),
        Vectors(error=EmbeddingError("no such model", refused=True, status=404)),
        Vectors(error=EmbeddingError("not known", refused=True)),
    ],
)
async def test_without_vectors_words_find_it(pool: Pool, vectors: Vectors) -> None:
    agent_id = await agent(pool)
    passage, said = await archival.passage_of({"content": "green umbrella"}, reader(pool, agent_id, vectors))
    assert passage.vector is None
    assert said.split()[0] == passage.id
    assert ("without an embedding" in said) == (not vectors.off)
    async with connection(pool) as conn:
        await passages.insert_for_agent(conn, agent_id, [passage])
    (hit,) = await found(pool, agent_id, vectors, "umbrella")
    assert hit["id"] == passage.id
    assert "vector_rank" not in hit["relevance"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_text_that_the_model_refuses_is_an_error(pool: Pool, status: int) -> None:
    vectors = Vectors(error=EmbeddingError("too long", refused=True, status=status))
    with pytest.raises(ToolError, match="cannot be embedded: too long"):
        await archival.passage_of({"content": "x"}, reader(pool, "agent-1", vectors))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"content": "  \n"}, "content is empty"),
        ({"content": "word " * 8_193}, "about 8193 tokens, a passage 8192 at most; split it up"),
        ({"content": "x", "tags": ["t" * 257]}, "257 characters"),
        ({"content": "x", "tags": [f"t{i}" for i in range(101)]}, "101 items"),
    ],
)
async def test_what_cannot_be_stored_is_named(pool: Pool, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        await archival.passage_of(arguments, reader(pool, "agent-1", Vectors()))


async def test_tags_match_any_or_all(pool: Pool) -> None:
    agent_id, vectors = await agent(pool), Vectors()
    await archive(pool, agent_id, vectors, "fact one", tags=["a", "b"])
    await archive(pool, agent_id, vectors, "fact two", tags=["b"])
    await archive(pool, agent_id, vectors, "fact three")

    async def tagged(**more: Any) -> set[str]:
        return set(await contents(pool, agent_id, vectors, "fact", **more))

    assert await tagged() == {"fact one", "fact two", "fact three"}
    assert await tagged(tags=["a", "b"]) == {"fact one", "fact two"}
    assert await tagged(tags=["a", "b"], tag_match_mode="any") == {"fact one", "fact two"}
    assert await tagged(tags=["a", "b"], tag_match_mode="all") == {"fact one"}
    assert await tagged(tags=["c"]) == set()


async def test_dates_are_days_of_the_agent_and_an_end_includes_its_day(pool: Pool) -> None:
    agent_id, vectors = await agent(pool), Vectors()
    late = datetime(2026, 4, 1, 3, 30, tzinfo=UTC)  # 23:30 of 31 March in New York
    await archive(pool, agent_id, vectors, "fact late", at=late)
    await archive(pool, agent_id, vectors, "fact next", at=late + timedelta(hours=1))
    zone = "America/New_York"

    async def between(**more: Any) -> set[str]:
        return set(await contents(pool, agent_id, vectors, "fact", timezone=zone, **more))

    assert await between(end_datetime="2026-03-31") == {"fact late"}
    assert await between(start_datetime="2026-03-31", end_datetime="2026-03-31") == {"fact late"}
    assert await between(start_datetime="2026-04-01") == {"fact next"}
    assert await between(start_datetime="2026-04-01T00:00") == {"fact next"}
    assert await between(end_datetime="2026-03-31T23:00") == set()
    assert await between(start_datetime="2026-04-01T03:00Z", end_datetime="2026-04-01T04:00Z") == {
        "fact late"
    }
    (hit, *_) = await found(pool, agent_id, vectors, "late", timezone=zone, end_datetime="2026-03-31")
    assert hit["timestamp"] == "2026-03-31T23:30:00-04:00"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"query": "  "}, "query is empty"),
        ({"query": "x", "start_datetime": "soon"}, "start_datetime 'soon' is not a date"),
        (
            {"query": "x", "start_datetime": "2026-02-02", "end_datetime": "2026-02-01"},
            "start_datetime is after",
        ),
    ],
)
async def test_a_search_that_makes_no_sense_is_named(
    pool: Pool, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ToolError, match=reason):
        await archival.search(arguments, reader(pool, "agent-1", Vectors()))


async def test_ten_are_returned_when_nobody_says_how_many_and_never_more_than_fifty(pool: Pool) -> None:
    agent_id, vectors = await agent(pool), Vectors()
    async with connection(pool) as conn:
        made = [
            (await archival.passage_of({"content": f"fact {i}"}, reader(pool, agent_id, vectors)))[0]
            for i in range(60)
        ]
        await passages.insert_for_agent(conn, agent_id, made)
    assert len(await found(pool, agent_id, vectors, "fact")) == 10
    assert len(await found(pool, agent_id, vectors, "fact", top_k=3)) == 3
    assert len(await found(pool, agent_id, vectors, "fact", top_k=0)) == 1
    assert len(await found(pool, agent_id, vectors, "fact", top_k=1_000)) == archival.MAX_HITS


async def test_long_passages_share_a_bounded_result(pool: Pool) -> None:
    agent_id, vectors = await agent(pool), Vectors()
    for i in range(4):
        await archive(pool, agent_id, vectors, f"fact {i} " + "tea" * 10_000)
    shown = await contents(pool, agent_id, vectors, "fact", top_k=4)
    assert sum(map(len, shown)) < archival.RESULT_CHARS + 4 * 50
    assert all(text.endswith("characters]") for text in shown)


async def test_another_agent_finds_nothing_of_it(pool: Pool) -> None:
    mine, other = await agent(pool), await agent(pool)
    await archive(pool, mine, Vectors(), "secret fact")
    assert await found(pool, other, Vectors(), "secret fact") == []
