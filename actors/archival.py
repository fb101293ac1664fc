"""Texts become passages that can be found: embedded in portions, and their vectors indexed."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from actors.errors import EmbeddingError
from storage import passage_indexes
from storage.archive_records import Passage
from storage.errors import StorageError
from storage.pool import Pool, connection

if TYPE_CHECKING:
    from actors.llm.embed import Embeddings

log = logging.getLogger("wakeful.archival")

MAX_TOKENS = 8192  # of one passage, as Letta's server has it
PORTION = 64  # texts in one call of a model: what the local one does in half a second
LOOK_EVERY = 60.0  # seconds between looks for vectors of a length that has no index yet


async def embedded(
    embeddings: "Embeddings", passages: Sequence[Passage], *, model: str | None
) -> list[Passage]:
    """Return the passages with vectors by `model` or the default; as they are where embeddings are off.

    Where the model is away the rest goes without, in order: words find it, and whoever stores it sets the
    `wanted` of the `backlog`, which embeds it later. Cancelling loses what was embedded so far.

    Raises:
        EmbeddingError: The model is not known or refuses a text: later would be no better.
    """
    handle = embeddings.handle_for(model)
    if handle is None:
        return list(passages)
    done: list[Passage] = []
    for start in range(0, len(passages), PORTION):
        portion = passages[start : start + PORTION]
        try:
            made = await embeddings.embed([p.text for p in portion], model=handle)
        except EmbeddingError as error:
            if error.refused:
                raise
            log.warning("passages stored without vectors", extra={"model": handle, "why": str(error)})
            return [*done, *passages[start:]]
        done += [
            replace(passage, embedding_model=made.model, vector=tuple(vector))
            for passage, vector in zip(portion, made.vectors, strict=True)
        ]
    return done


async def keep_indexed(pool: Pool) -> None:
    """Have vectors of every length found by index, from a minute after the first one on, until cancelled."""
    while True:
        try:
            async with connection(pool) as conn:
                await passage_indexes.make_missing(conn)
        except StorageError as error:
            log.warning("vectors not indexed", extra={"reason": str(error)})
        await anyio.sleep(LOOK_EVERY)
