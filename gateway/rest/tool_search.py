"""Search over tools by their words, as `POST /v1/tools/search`."""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.app import Context, Route, json
from gateway.letta import agents as letta_agents
from gateway.letta.agents import LettaTool
from storage import tools
from storage.keyset import Page
from storage.pool import connection
from storage.records import Tool
from storage.tools import ToolFilter

EVERY = 1000  # tools that are looked at: an organisation has the server's own, some twenty
RRF_K = 60  # of reciprocal rank fusion, as Letta has it; here it fuses one ranking

_WORD = re.compile(r"[^\W_]+")


class SearchRequest(Struct, frozen=True, kw_only=True):
    """What to look for. Words are compared whatever `search_mode` says; of `tags` a tool needs one."""

    query: Annotated[str, Meta(max_length=10_000)] | None = None
    search_mode: Literal["vector", "fts", "hybrid"] = "hybrid"
    tool_types: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class FoundTool(Struct, frozen=True, kw_only=True):
    """A tool that was found, and its place among them. None has a vector."""

    tool: LettaTool
    embedded_text: str
    fts_rank: int | None
    vector_rank: int | None = None
    combined_score: float


async def search(ctx: Context) -> Response:
    """Find tools that share words with the query, the best first; without one, the newest."""
    request = await ctx.body(SearchRequest)
    where = ToolFilter(organization_id=ctx.caller.organization_id, tool_types=request.tool_types)
    async with connection(ctx.host.pool) as conn:
        every = await tools.list_page(conn, Page(limit=EVERY), where=where)
    wanted = set(request.tags or ())
    ranked = _ranked([t for t in every if not wanted or wanted & set(t.tags)], request.query)
    return json(
        [
            FoundTool(
                tool=letta_agents.tool(tool),
                embedded_text=_text(tool),
                fts_rank=place if request.query else None,
                combined_score=1 / (RRF_K + place),
            )
            for place, tool in enumerate(ranked[: request.limit], start=1)
        ]
    )


def _ranked(found: list[Tool], query: str | None) -> list[Tool]:
    """Return the tools that have words of the query, those of the name counting more, the best first."""
    sought = _words(query or "")
    if not sought:
        return found
    scores = [
        (2 * len(sought & _words(tool.name)) + len(sought & _words(tool.description)), tool) for tool in found
    ]
    return [tool for score, tool in sorted(scores, key=lambda s: (-s[0], s[1].name)) if score]


def _words(text: str) -> set[str]:
    """Return the words of a text as far as they tell one from another: `searching` and `search` are one."""
    return {_stem(word) for word in _WORD.findall(text.lower()) if len(word) > 2}


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ions?|es|s|ed|e)$", "", word) if len(word) > 4 else word


def _text(tool: Tool) -> str:
    return f"{tool.name}\n{tool.description}"


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/tools/search",
        endpoint=search,
        operation_id="search_tools",
        summary="Find tools by their words",
        body=SearchRequest,
        returns=list[FoundTool],
        tags=("tools",),
    ),
)
