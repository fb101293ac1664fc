"""What archival memory is at rest: archives, and the passages in them."""

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from storage.records import JsonObject


class Archive(Struct, frozen=True, kw_only=True):
    """A collection of passages that agents share. An agent's own one is made at its first insert.

    `embedding` is the handle of the model that new passages are embedded with, `dimensions` the length
    of its vectors; both are settled by the first passage that has a vector, unless they were chosen before.
    """

    id: str
    organization_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    embedding: str | None = None
    dimensions: int | None = None
    metadata: JsonObject = {}
    created_by_id: str | None = None
    last_updated_by_id: str | None = None


class ArchiveChanges(Struct, frozen=True, kw_only=True):
    """What an update changes; `UNSET` leaves a field as it is."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    last_updated_by_id: str | None = None


class Passage(Struct, frozen=True, kw_only=True):
    """One memory of an archive. `vector` is its text under `embedding_model`; without it words find it.

    `archive_id` is empty until an agent's passage is stored, because its archive may not exist before.
    """

    id: str
    organization_id: str
    archive_id: str
    text: str
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...] = ()
    metadata: JsonObject = {}
    embedding_model: str | None = None
    vector: tuple[float, ...] | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
