"""Routes of models: what agents can be given."""

from msgspec import Struct
from starlette.responses import Response

from gateway.app import Context, Route, json
from gateway.letta import models as letta_models
from gateway.letta.models import EmbeddingModel, LettaModel


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which models."""

    provider_category: tuple[str, ...] | None = None
    provider_name: str | None = None
    provider_type: str | None = None


async def list_(ctx: Context) -> Response:
    """Return the models of every configured provider, by handle."""
    query = ctx.query(ListQuery)
    if query.provider_category is not None and "base" not in query.provider_category:
        return json(())
    found = letta_models.models(await ctx.host.catalog.list())
    return json(
        [
            model
            for model in found
            if query.provider_name in (None, model.provider_name)
            and query.provider_type in (None, model.provider_type)
        ]
    )


async def list_embeddings(ctx: Context) -> Response:
    """Return the models that embed, by handle: the providers' and the local one; none where it is off."""
    return json(letta_models.embedding_models(await ctx.host.embeddings.available()))


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/models/",
        endpoint=list_,
        operation_id="list_models",
        summary="List models",
        query=ListQuery,
        returns=list[LettaModel],
        tags=("models",),
    ),
    Route(
        method="GET",
        path="/v1/models/embedding",
        endpoint=list_embeddings,
        operation_id="list_embedding_models",
        summary="List embedding models",
        returns=list[EmbeddingModel],
        tags=("models",),
    ),
)
