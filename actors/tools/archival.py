"""archival_memory_insert and archival_memory_search: what is put away for good, and found by meaning."""

import logging
from collections.abc import Sequence
from datetime import tzinfo

import msgspec
from msgspec.structs import replace

from actors import clock
from actors.archival import MAX_TOKENS
from actors.errors import EmbeddingError
from actors.llm.embed import Embedded
from actors.prompt import zone
from actors.tools import moments
from actors.tools.reading import Reader
from actors.tools.results import ToolError
from storage import passages
from storage.archive_records import Passage
from storage.passages import PassageHit
from storage.pool import connection
from storage.records import JsonObject

log = logging.getLogger("wakeful.tools")

DEFAULT_HITS = 10
MAX_HITS = 50
RESULT_CHARS = 40_000  # of all contents together: what a result may take of the model's window
MAX_TAGS = 100
MAX_TAG_CHARS = 256
EMBED_SECONDS = 30.0  # a passage waits so long for its vector, then it is stored without
QUERY_SECONDS = 10.0  # a search waits less: its words are enough to begin with

_AT_FAULT = (400, 413, 422)  # what a provider answers to a text that it cannot embed


async def passage_of(arguments: JsonObject, reader: Reader) -> tuple[Passage, str]:
    """Return the passage that a call wants stored, with its vector, and what the model is told of it.

    The step's own commit stores it. Where no vector can be had now the passage goes without one: words
    find it. `arguments` have passed `arguments.parse`. Cancelling loses nothing.

    Raises:
        ToolError: The text is empty or too long, a tag is, or the text cannot be embedded as it is.
    """
    text = arguments["content"].strip()
    if not text:
        raise ToolError("content is empty; send the text to keep")
    if (tokens := reader.count(text)) > MAX_TOKENS:
        raise ToolError(f"content has about {tokens} tokens, a passage {MAX_TOKENS} at most; split it up")
    if reader.fits is not None and not await reader.fits(text, MAX_TOKENS):
        raise ToolError(
            f"content has more than {MAX_TOKENS} tokens, which a passage has at most; split it up"
        )
    passage = Passage(
        id=clock.new_id("passage"),
        organization_id=reader.organization_id,
        archive_id="",
        text=text,
        created_at=reader.now,
        updated_at=reader.now,
        tags=_tags(arguments.get("tags", ())),
    )
    try:
        embedded = await _embed(text, reader, seconds=EMBED_SECONDS)
    except EmbeddingError as error:
        if error.status in _AT_FAULT:
            raise ToolError(f"content cannot be embedded: {error}") from error
        log.warning("passage stored without a vector", extra={"agent_id": reader.agent_id, "why": str(error)})
        return passage, f"{passage.id} (stored without an embedding, so only its words find it: {error})"
    if embedded is not None:
        passage = replace(passage, embedding_model=embedded.model, vector=embedded.vectors[0])
    return passage, passage.id


def _tags(given: Sequence[str]) -> tuple[str, ...]:
    """Return tags without repeats and without spaces around them."""
    tags = tuple(dict.fromkeys(tag for text in given if (tag := text.strip())))
    if len(tags) > MAX_TAGS:
        raise ToolError(f"tags has {len(tags)} items; send at most {MAX_TAGS}")
    for tag in tags:
        if len(tag) > MAX_TAG_CHARS:
            raise ToolError(f"a tag has {len(tag)} characters; use at most {MAX_TAG_CHARS}")
    return tags


async def search(arguments: JsonObject, reader: Reader) -> str:
    """Return the JSON list of what was found, the closest first; `arguments` have passed `arguments.parse`.

    Dates without an offset are in the agent's timezone. Without embeddings words decide alone.
    Cancelling loses nothing.

    Raises:
        ToolError: The query is empty, a date cannot be read, or the span is empty.
    """
    query = arguments["query"].strip()
    if not query:
        raise ToolError("query is empty; describe what you look for")
    here = zone(reader.timezone)
    start, end = moments.span(arguments, "start_datetime", "end_datetime", here=here)
    embedded = await _embed_query(query, reader)
    async with connection(reader.pool) as conn:
        hits = await passages.search(
            conn,
            organization_id=reader.organization_id,
            agent_id=reader.agent_id,
            query=query,
            vector=None if embedded is None else embedded.vectors[0],
            embedding_model=None if embedded is None else embedded.model,
            tags=_tags(arguments.get("tags", ())),
            match_all_tags=arguments.get("tag_match_mode") == "all",
            start=start,
            end=end,
            limit=min(max(arguments.get("top_k", DEFAULT_HITS), 1), MAX_HITS),
        )
    return _render(hits, here=here)


async def _embed_query(query: str, reader: Reader) -> Embedded | None:
    """Return the query's vector, or nothing where none can be had now."""
    try:
        return await _embed(query, reader, seconds=QUERY_SECONDS)
    except EmbeddingError as error:
        log.warning("search without a vector", extra={"agent_id": reader.agent_id, "why": str(error)})
        return None


async def _embed(text: str, reader: Reader, *, seconds: float) -> Embedded | None:
    """Return the vector of a text, or nothing where embeddings are off.

    Raises:
        EmbeddingError: There is no such model, or it failed.
    """
    embeddings = reader.embeddings
    if embeddings is None or embeddings.handle_for(reader.embedding) is None:
        return None
    return await embeddings.embed([text], model=reader.embedding, timeout=seconds)


def _render(hits: Sequence[PassageHit], *, here: tzinfo) -> str:
    share = RESULT_CHARS // max(1, len(hits))
    return msgspec.json.encode([_result(hit, here=here, limit_chars=share) for hit in hits]).decode()


def _result(hit: PassageHit, *, here: tzinfo, limit_chars: int) -> JsonObject:
    passage = hit.passage
    text = passage.text
    if len(text) > limit_chars:
        text = f"{text[:limit_chars]}... [{len(text)} characters]"
    ranks = {"vector_rank": hit.vector_rank, "fts_rank": hit.fts_rank}
    return {
        "id": passage.id,
        "timestamp": passage.created_at.astimezone(here).isoformat(timespec="seconds"),
        "content": text,
        "tags": passage.tags,
        "relevance": {
            "rrf_score": round(hit.score, 4),
            **{name: rank for name, rank in ranks.items() if rank is not None},
            "search_mode": hit.search_mode,
        },
    }
