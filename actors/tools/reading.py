"""What a tool that is awaited during a step may use of the world."""

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from actors.llm.embed import Embeddings
from storage.pool import Pool


class Reader(Struct, frozen=True, kw_only=True):
    """The database, the clock, and what turns texts into vectors, in the name of one agent in one run.

    `embedding` is the handle of the model that the agent's archive has vectors of, else of the one that
    the agent chose, if it did: vectors of two models cannot be compared. `count` tells the tokens of a text.
    """

    pool: Pool
    agent_id: str
    organization_id: str
    run_id: str
    timezone: str
    now: datetime
    count: Callable[[str], int]
    embeddings: Embeddings | None = None
    embedding: str | None = None
