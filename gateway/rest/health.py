"""Routes of health: whether the process lives, and whether it should be sent work. They need no key."""

from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct
from starlette.responses import Response

from actors.embedder.local import EmbedderStatus
from gateway.app import Context, Route, json


class Health(Struct, frozen=True):
    """The server's version and how it is doing: `ok`, `degraded` or `draining`."""

    version: str
    status: str


class Readiness(Struct, frozen=True):
    """What `Health` says, and how the local embedding model is doing in its own process."""

    version: str
    status: str
    embedder: EmbedderStatus


def release() -> str:
    """Return the version of the installed package."""
    try:
        return version("wakeful")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


_VERSION = release()


async def check(ctx: Context) -> Response:
    """Return 200 as long as the process answers at all."""
    return json(Health(_VERSION, ctx.host.health().status))


async def ready(ctx: Context) -> Response:
    """Return 200 while messages are accepted, else 503."""
    health = ctx.host.health()
    answer = Readiness(_VERSION, health.status, health.embedder)
    return json(answer, status=200 if health.status == "ok" else 503)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/health/",
        endpoint=check,
        operation_id="check_health",
        summary="Check that the server lives",
        returns=Health,
        tags=("health",),
        public=True,
    ),
    Route(
        method="GET",
        path="/v1/ready/",
        endpoint=ready,
        operation_id="check_ready",
        summary="Check that the server accepts work",
        returns=Readiness,
        tags=("health",),
        public=True,
    ),
)
