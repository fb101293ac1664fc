"""What a tool that is awaited during a step may use of the world."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from msgspec import Struct

from actors.llm.embed import Embeddings
from actors.tools.web import Web
from storage.pool import Pool


class Reader(Struct, frozen=True, kw_only=True):
    """The database, the clock, the web, and what turns texts into vectors, for one agent in one run.

    `embedding` is the handle of the model that the agent's archive has vectors of, else of the one that
    the agent chose, if it did: vectors of two models cannot be compared. `count` tells about how many
    tokens a text has, `fits` exactly whether it has at most so many.
    """

    pool: Pool
    agent_id: str
    organization_id: str
    run_id: str
    timezone: str
    now: datetime
    count: Callable[[str], int]
    fits: Callable[[str, int], Awaitable[bool]] | None = None
    embeddings: Embeddings | None = None
    embedding: str | None = None
    web: Web | None = None
