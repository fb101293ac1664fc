"""Shows archives and passages as Letta's clients expect them. Pure."""

from collections.abc import Iterable
from datetime import datetime, tzinfo

from msgspec import Struct

from gateway.letta import models
from gateway.letta.models import EmbeddingConfig
from storage.archive_records import Archive, Passage
from storage.passages import PassageHit
from storage.records import JsonObject


class LettaArchive(Struct, frozen=True, kw_only=True):
    """A collection of passages that agents share. `embedding_config` is settled by its first passage."""

    id: str
    name: str
    description: str | None
    organization_id: str
    embedding_config: EmbeddingConfig | None
    metadata: JsonObject
    created_at: datetime
    updated_at: datetime
    created_by_id: str | None
    last_updated_by_id: str | None
    vector_db_provider: str = "native"


class LettaPassage(Struct, frozen=True, kw_only=True):
    """A passage of an archive. `embedding` is null where it has none, and in results of a search.

    A passage has none where embeddings are off, and as long as its embedding model is away: words alone find
    it until the model is back.
    """

    id: str
    text: str
    embedding: tuple[float, ...] | None
    embedding_config: EmbeddingConfig | None
    organization_id: str
    archive_id: str
    tags: tuple[str, ...]
    metadata: JsonObject
    created_at: datetime
    updated_at: datetime
    created_by_id: str | None
    last_updated_by_id: str | None
    is_deleted: bool = False
    source_id: str | None = None
    file_id: str | None = None
    file_name: str | None = None


class SearchedMemory(Struct, frozen=True, kw_only=True):
    """A memory that was found. `timestamp` is in the agent's timezone."""

    id: str
    timestamp: str
    content: str
    tags: tuple[str, ...]


class SearchedMemories(Struct, frozen=True, kw_only=True):
    """What a search of an agent's memories found, best first."""

    results: tuple[SearchedMemory, ...]
    count: int


class SearchedPassage(Struct, frozen=True, kw_only=True):
    """A passage that was found. The greater `score`, the better; `metadata` says how it was found."""

    passage: LettaPassage
    score: float
    metadata: JsonObject


def archive(archive: Archive) -> LettaArchive:
    """Return an archive as clients see it."""
    return LettaArchive(
        id=archive.id,
        name=archive.name,
        description=archive.description,
        organization_id=archive.organization_id,
        embedding_config=_config(archive.embedding, archive.dimensions),
        metadata=archive.metadata,
        created_at=archive.created_at,
        updated_at=archive.updated_at,
        created_by_id=archive.created_by_id,
        last_updated_by_id=archive.last_updated_by_id,
    )


def passage(passage: Passage, *, dimensions: int | None = None) -> LettaPassage:
    """Return a passage as clients see it; `dimensions` where its vector was not read."""
    length = dimensions if passage.vector is None else len(passage.vector)
    return LettaPassage(
        id=passage.id,
        text=passage.text,
        embedding=passage.vector,
        embedding_config=_config(passage.embedding_model, length),
        organization_id=passage.organization_id,
        archive_id=passage.archive_id,
        tags=passage.tags,
        metadata=passage.metadata,
        created_at=passage.created_at,
        updated_at=passage.updated_at,
        created_by_id=passage.created_by_id,
        last_updated_by_id=passage.last_updated_by_id,
    )


def memories(hits: Iterable[PassageHit], *, here: tzinfo) -> SearchedMemories:
    """Return what was found for an agent, with times in its timezone."""
    results = tuple(
        SearchedMemory(
            id=hit.passage.id,
            timestamp=hit.passage.created_at.astimezone(here).isoformat(),
            content=hit.passage.text,
            tags=hit.passage.tags,
        )
        for hit in hits
    )
    return SearchedMemories(results=results, count=len(results))


def searched(hit: PassageHit, *, dimensions: int | None) -> SearchedPassage:
    """Return a passage that was found, and how; `dimensions` are those of the query's vector."""
    return SearchedPassage(
        passage=passage(hit.passage, dimensions=dimensions),
        score=hit.score,
        metadata={
            "search_mode": hit.search_mode,
            "vector_rank": hit.vector_rank,
            "fts_rank": hit.fts_rank,
        },
    )


def _config(handle: str | None, dimensions: int | None) -> EmbeddingConfig | None:
    return None if handle is None else models.embedding_of(handle, dimensions)
