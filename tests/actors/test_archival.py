"""Texts become passages: in portions, by one model, and their vectors get an index."""

from collections.abc import Sequence

import anyio
import pytest

from actors import archival
from actors.errors import EmbeddingError
from actors.llm.embed import Embedded
from storage import passages
from storage.pool import Pool, connection
from tests.storage import seeds
from tests.storage.libraries import passage


class Embedder:
    """Embeds by counting characters, and remembers what it was asked."""

    def __init__(self, handle: str | None, failing: EmbeddingError | None = None) -> None:
        self.handle = handle
        self.failing = failing  # from the second portion on
        self.asked: list[tuple[int, str | None]] = []

    def handle_for(self, named: str | None) -> str | None:
        return self.handle and (named or self.handle)

    async def embed(self, texts: Sequence[str], *, model: str | None = None) -> Embedded:
        self.asked.append((len(texts), model))
        if self.failing is not None and len(self.asked) > 1:
            raise self.failing
        return Embedded(model or "", 2, tuple((float(len(text)), 1.0) for text in texts))


@pytest.mark.parametrize("count", [0, 1, 64, 65, 130])
async def test_passages_are_embedded_in_portions_and_keep_their_order(count: int) -> None:
    embedder = Embedder("test/lengths")
    made = await archival.embedded(embedder, [passage("x" * n) for n in range(count)], model=None)  # type: ignore[arg-type]
    assert [p.vector for p in made] == [(float(n), 1.0) for n in range(count)]
    assert {p.embedding_model for p in made} <= {"test/lengths"}
    assert [size for size, _ in embedder.asked] == [64] * (count // 64) + [count % 64] * bool(count % 64)


async def test_a_model_that_goes_away_leaves_the_rest_without_vectors() -> None:
    embedder = Embedder("test/lengths", EmbeddingError("away", retryable=True))
    new = [passage(str(n)) for n in range(3 * archival.PORTION)]
    made = await archival.embedded(embedder, new, model=None)  # type: ignore[arg-type]
    assert [p.text for p in made] == [p.text for p in new]
    assert [p.vector is None for p in made] == [n >= archival.PORTION for n in range(len(new))]
    assert len(embedder.asked) == 2


async def test_a_model_that_refuses_a_text_refuses_them_all() -> None:
    embedder = Embedder("test/lengths", EmbeddingError("too long", refused=True, status=413))
    with pytest.raises(EmbeddingError):
        await archival.embedded(embedder, [passage("x")] * 65, model=None)  # type: ignore[arg-type]


async def test_where_embeddings_are_off_passages_go_without_vectors() -> None:
    off = Embedder(None)
    (made,) = await archival.embedded(off, [passage("x")], model="some/model")  # type: ignore[arg-type]
    assert (made.vector, made.embedding_model, off.asked) == (None, None, [])


async def test_a_new_length_of_vectors_is_indexed_by_the_host(pool: Pool) -> None:
    async with connection(pool) as conn:
        await passages.insert_for_agent(conn, await seeds.agent(conn), [passage("x", 1, dimensions=3)])
    async with anyio.create_task_group() as group:
        group.start_soon(archival.keep_indexed, pool)
        with anyio.fail_after(10):
            while True:
                async with connection(pool) as conn:
                    if await conn.fetchval("select to_regclass('passages_by_meaning_3') is not null"):
                        break
        group.cancel_scope.cancel()
