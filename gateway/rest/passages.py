"""Routes of passages: an agent's memories, which go through it, the passages of an archive, and search."""

import logging
from datetime import UTC
from typing import Annotated

from msgspec import Meta, Struct
from starlette.responses import Response

from actors import archival
from actors.clock import now
from actors.commands import DeletePassage, InsertPassages
from actors.errors import EmbeddingError
from actors.prompt import zone
from actors.tools.archival import DEFAULT_HITS
from gateway.app import Context, Route, json
from gateway.decode import Limit
from gateway.errors import BadArgumentError
from gateway.letta import passages as letta_passages
from gateway.letta.passages import LettaPassage, SearchedMemories, SearchedPassage
from gateway.requests import passages as requests
from gateway.requests.passages import (
    CreateArchivePassage,
    CreateArchivePassages,
    CreatePassage,
    SearchPassages,
    TagMatch,
)
from gateway.rest import agents as agent_routes
from storage import archives, passages
from storage.archive_records import Archive, Passage
from storage.archives import Library
from storage.keyset import Page
from storage.pool import connection, transaction

log = logging.getLogger("wakeful.gateway")

QUERY_SECONDS = 10.0  # a search waits so long for the vector of its query, then words decide alone
BATCH_SECONDS = 300.0  # a thousand passages embedded by the local model on a slow machine


SearchText = Annotated[str, Meta(description="A part of their text.", max_length=2000)]


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which page of an agent's memories. Cursors are their ids and follow the order."""

    limit: Limit | None = 100
    after: str | None = None
    before: str | None = None
    search: SearchText | None = None
    ascending: bool | None = True


class SearchQuery(Struct, frozen=True, kw_only=True):
    """What to find in an agent's memories. Times without an offset are in its timezone."""

    query: str
    tags: tuple[str, ...] | None = None
    tag_match_mode: TagMatch = "any"
    top_k: Limit | None = None
    start_datetime: str | None = None
    end_datetime: str | None = None


class Done(Struct, frozen=True):
    """What was done, in words."""

    message: str


# --- memories of an agent -------------------------------------------------------------------------


async def create(ctx: Context) -> Response:
    """Store a memory between two of an agent's steps; return it as a list of one.

    While its embedding model is away it is stored without a vector: words find it, and the vector follows.
    """
    request = await ctx.body(CreatePassage)
    agent_id = ctx.params["agent_id"]
    library = await _library(ctx, agent_id)
    passage = requests.new_passage(request, archive_id="", caller=ctx.caller, at=now())
    await _check_sizes(ctx, [passage])
    made = await archival.embedded(ctx.host.embeddings, [passage], model=library.embedding)
    await ctx.host.ref(agent_id).edit(InsertPassages(tuple(made)))
    async with connection(ctx.host.pool) as conn:
        stored = await passages.get(conn, passage.id, organization_id=ctx.caller.organization_id)
        sharing = await archives.holders(conn, stored.archive_id)
    await ctx.host.passages_written(other for other in sharing if other != agent_id)
    return json([letta_passages.passage(stored)])


async def list_(ctx: Context) -> Response:
    """Return a page of an agent's memories, of all its archives, by age."""
    query = ctx.query(ListQuery)
    agent_id = await agent_routes.own(ctx)
    page = Page(
        limit=query.limit or 100, after=query.after, before=query.before, descending=query.ascending is False
    )
    async with connection(ctx.host.pool) as conn:
        found = await passages.list_page(
            conn,
            page,
            agent_id=agent_id,
            organization_id=ctx.caller.organization_id,
            search=query.search or None,
        )
    return json([letta_passages.passage(passage) for passage in found])


async def search(ctx: Context) -> Response:
    """Return an agent's memories that are close to a query in meaning or words, best first."""
    query = ctx.query(SearchQuery)
    agent_id = ctx.params["agent_id"]
    library = await _library(ctx, agent_id)
    here = zone(library.timezone)
    start, end = requests.span(
        query.start_datetime, query.end_datetime, names=("start_datetime", "end_datetime"), here=here
    )
    tags = requests.tags(query.tags, param="/tags")
    if not query.query.strip():
        return json(letta_passages.memories((), here=here))
    model, vector = await _vector(ctx, query.query, library.embedding)
    async with connection(ctx.host.pool) as conn:
        hits = await passages.search(
            conn,
            organization_id=ctx.caller.organization_id,
            agent_id=agent_id,
            query=query.query,
            vector=vector,
            embedding_model=model,
            tags=tags,
            match_all_tags=query.tag_match_mode == "all",
            start=start,
            end=end,
            limit=query.top_k or DEFAULT_HITS,
        )
    return json(letta_passages.memories(hits, here=here))


async def delete(ctx: Context) -> Response:
    """Delete a memory between two of an agent's steps."""
    agent_id, passage_id = await agent_routes.own(ctx), ctx.params["memory_id"]
    async with connection(ctx.host.pool) as conn:
        found = await passages.get(conn, passage_id, organization_id=ctx.caller.organization_id)
        sharing = await archives.holders(conn, found.archive_id)
    await ctx.host.ref(agent_id).edit(DeletePassage(passage_id))
    await ctx.host.passages_written(other for other in sharing if other != agent_id)
    return json(Done(f"Memory {passage_id} was deleted"))


async def _library(ctx: Context, agent_id: str) -> Library:
    """Return what is to know of an agent of the caller's organisation to search its memories."""
    async with connection(ctx.host.pool) as conn:
        return await archives.library_of(conn, agent_id, organization_id=ctx.caller.organization_id)


async def _vector(ctx: Context, query: str, model: str | None) -> tuple[str | None, tuple[float, ...] | None]:
    """Return (model, vector) of a query, or nothing where it cannot be had: words find something, too."""
    if ctx.host.embeddings.handle_for(model) is None:
        return None, None
    try:
        made = await ctx.host.embeddings.embed([query], model=model, timeout=QUERY_SECONDS)
    except EmbeddingError as error:
        log.warning("search without a vector", extra={"request_id": ctx.request_id, "why": str(error)})
        return None, None
    return made.model, tuple(made.vectors[0])


# --- passages of an archive -------------------------------------------------------------------------


async def create_in_archive(ctx: Context) -> Response:
    """Store a passage in an archive."""
    request = await ctx.body(CreateArchivePassage)
    archive = await _archive(ctx)
    passage = requests.new_passage(request, archive_id=archive.id, caller=ctx.caller, at=now())
    (stored,) = await _store(ctx, archive, [passage])
    return json(letta_passages.passage(stored))


async def create_many_in_archive(ctx: Context) -> Response:
    """Store passages in an archive, all or none."""
    request = await ctx.body(CreateArchivePassages)
    archive = await _archive(ctx)
    new = requests.new_passages(request, archive_id=archive.id, caller=ctx.caller, at=now())
    return json([letta_passages.passage(passage) for passage in await _store(ctx, archive, new)])


async def delete_from_archive(ctx: Context) -> Response:
    """Delete a passage of an archive."""
    archive = await _archive(ctx)
    async with connection(ctx.host.pool) as conn:
        await passages.delete(
            conn,
            ctx.params["passage_id"],
            archive_id=archive.id,
            organization_id=ctx.caller.organization_id,
        )
        holders = await archives.holders(conn, archive.id)
    await ctx.host.passages_written(holders)
    return Response(status_code=204)


async def _archive(ctx: Context) -> Archive:
    async with connection(ctx.host.pool) as conn:
        return await archives.get(conn, ctx.params["archive_id"], organization_id=ctx.caller.organization_id)


async def _store(ctx: Context, archive: Archive, new: list[Passage]) -> list[Passage]:
    """Embed and store passages, and let the agents that hold the archive count anew.

    Those of a model that is away are embedded later; `Host.passages_written` sees to it.
    """
    await _check_sizes(ctx, new)
    made = await archival.embedded(ctx.host.embeddings, new, model=archive.embedding)
    async with connection(ctx.host.pool) as conn:
        async with transaction(conn):
            await passages.insert_into(conn, archive, made)
        holders = await archives.holders(conn, archive.id)
    await ctx.host.passages_written(holders)
    return made


async def _check_sizes(ctx: Context, new: list[Passage]) -> None:
    """Refuse texts that have more tokens than a passage may have, counted exactly.

    Raises:
        BadArgumentError: One has.
    """
    for passage in new:
        if not await ctx.host.counter.fits(passage.text, archival.MAX_TOKENS):
            raise BadArgumentError(
                f"a text has more than {archival.MAX_TOKENS} tokens, which a passage has at most: split it up"
            )


# --- passages of everywhere -------------------------------------------------------------------------


async def search_all(ctx: Context) -> Response:
    """Return passages of an agent, an archive or the whole organisation that are close to a query."""
    request = await ctx.body(SearchPassages)
    start, end = requests.span(
        request.start_date, request.end_date, names=("start_date", "end_date"), here=UTC
    )
    tags = requests.tags(request.tags, param="/tags")
    model = await _model_of(ctx, request)
    text = (request.query or "").strip()
    named, vector = await _vector(ctx, text, model) if text else (None, None)
    async with connection(ctx.host.pool) as conn:
        hits = await passages.search(
            conn,
            organization_id=ctx.caller.organization_id,
            agent_id=request.agent_id,
            archive_ids=None if request.archive_id is None else (request.archive_id,),
            query=text,
            vector=vector,
            embedding_model=named,
            tags=tags,
            match_all_tags=request.tag_match_mode == "all",
            start=start,
            end=end,
            limit=request.limit,
        )
    dimensions = None if vector is None else len(vector)
    return json([letta_passages.searched(hit, dimensions=dimensions) for hit in hits])


async def _model_of(ctx: Context, request: SearchPassages) -> str | None:
    """Return the handle of what is searched; of all archives together, the newest one's.

    Raises:
        NotFoundError: The agent or the archive does not exist.
    """
    organization_id, agents_model = ctx.caller.organization_id, None
    async with connection(ctx.host.pool) as conn:
        if request.agent_id is not None:
            library = await archives.library_of(conn, request.agent_id, organization_id=organization_id)
            agents_model = library.embedding
        if request.archive_id is not None:
            found = await archives.get(conn, request.archive_id, organization_id=organization_id)
            return found.embedding or agents_model
        if request.agent_id is None:
            return await archives.newest_model(conn, organization_id=organization_id)
    return agents_model


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/agents/{agent_id}/archival-memory",
        endpoint=create,
        operation_id="create_passage",
        summary="Store a memory of an agent",
        body=CreatePassage,
        returns=list[LettaPassage],
        deadline_seconds=BATCH_SECONDS,
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/archival-memory",
        endpoint=list_,
        operation_id="list_passages",
        summary="List an agent's memories",
        query=ListQuery,
        returns=list[LettaPassage],
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/archival-memory/search",
        endpoint=search,
        operation_id="search_archival_memory",
        summary="Search an agent's memories",
        query=SearchQuery,
        returns=SearchedMemories,
        tags=("agents",),
    ),
    Route(
        method="DELETE",
        path="/v1/agents/{agent_id}/archival-memory/{memory_id}",
        endpoint=delete,
        operation_id="delete_passage",
        summary="Delete a memory of an agent",
        returns=Done,
        tags=("agents",),
    ),
    Route(
        method="POST",
        path="/v1/archives/{archive_id}/passages",
        endpoint=create_in_archive,
        operation_id="create_passage_in_archive",
        summary="Store a passage in an archive",
        body=CreateArchivePassage,
        returns=LettaPassage,
        deadline_seconds=BATCH_SECONDS,
        tags=("archives",),
    ),
    Route(
        method="POST",
        path="/v1/archives/{archive_id}/passages/batch",
        endpoint=create_many_in_archive,
        operation_id="create_passages_in_archive",
        summary="Store passages in an archive",
        body=CreateArchivePassages,
        returns=list[LettaPassage],
        deadline_seconds=BATCH_SECONDS,
        tags=("archives",),
    ),
    Route(
        method="DELETE",
        path="/v1/archives/{archive_id}/passages/{passage_id}",
        endpoint=delete_from_archive,
        operation_id="delete_passage_from_archive",
        summary="Delete a passage of an archive",
        status=204,
        tags=("archives",),
    ),
    Route(
        method="POST",
        path="/v1/passages/search",
        endpoint=search_all,
        operation_id="search_passages",
        summary="Search passages",
        body=SearchPassages,
        returns=list[SearchedPassage],
        tags=("passages",),
    ),
)
