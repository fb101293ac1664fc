"""Calls to a model's endpoint as the doctor makes them, and what their failures mean."""

import aiohttp
from msgspec import Struct

from actors.errors import ModelError
from actors.llm.catalog import Catalog
from actors.llm.embed import Embeddings
from actors.llm.http import Endpoint
from actors.llm.providers import Provider
from actors.llm.wire import broken
from gateway.doctor.findings import Finding, Show, error

ANSWER_BYTES = 4 * 1024 * 1024


class Surgery(Struct, frozen=True, kw_only=True):
    """What probes are made with: models, embedding models, and how long one probe may take."""

    catalog: Catalog
    embeddings: Embeddings
    deadline: float
    show: Show


async def post(endpoint: Endpoint, path: str, body: bytes) -> bytes:
    """Send a request that is answered at once, and return the body of the answer.

    Raises:
        ModelError: It was refused, or the connection failed.
    """
    try:
        return await endpoint.post(path, body, limit_bytes=ANSWER_BYTES)
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        raise broken(problem, endpoint.provider.name, endpoint.wire.timeouts) from problem


def refused(check: str, provider: Provider, problem: ModelError) -> Finding:
    """Return what a failed call means, with the remedy that fits it."""
    where = provider.endpoint
    match problem.status:
        case 401 | 403:
            remedy = f"check the key of {provider.name}, and that it may use this model"
        case 402:
            remedy = f"the account at {provider.name} has no credit left"
        case 404:
            remedy = f"check the model's name and the base URL {where}, which usually ends with /v1"
        case 429:
            remedy = "wait, or raise the limits of the account"
        case status if status is not None and status >= 500:
            remedy = f"see the log of the server at {where}"
        case None if "reached" in str(problem) or "resolved" in str(problem):
            remedy = f"start the server at {where}; in a container 127.0.0.1 is the container itself"
        case _:
            remedy = f"see the log of the server at {where}"
    return error(check, str(problem), remedy=remedy)
