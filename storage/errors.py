"""Errors of the storage package: each names one condition and what its caller should do."""

from collections.abc import Sequence
from typing import Literal


class StorageError(Exception):
    """Base of everything that storage raises on purpose."""


class NotFoundError(StorageError):
    """The row does not exist, or belongs to another organisation."""

    def __init__(self, noun: str, id: str) -> None:  # noqa: A002 - the field's own name
        super().__init__(f"{noun} {id!r} does not exist")
        self.noun = noun
        self.id = id


class UnknownToolsError(StorageError):
    """An agent was to be created with tools, by name or by id, that its organisation does not have."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.ids = tuple(key for key in keys if key.startswith("tool-"))
        self.names = tuple(key for key in keys if not key.startswith("tool-"))
        super().__init__(f"there are no tools {', '.join(keys)}")


class ConflictError(StorageError):
    """A uniqueness rule refused the write; `constraint` is its name in `schema.sql`."""

    def __init__(self, message: str, *, constraint: str | None = None) -> None:
        super().__init__(message)
        self.constraint = constraint


class LabelTakenError(ConflictError):
    """A step gives a block a label that its agent, or another holder of the block, has already.

    Reload the agent's blocks, apply the edits again, and commit again.
    """

    def __init__(self, label: str) -> None:
        super().__init__(
            f"the label {label!r} is taken on an agent that holds the block",
            constraint="block_label_is_unique_per_agent",
        )
        self.label = label


class KeyReusedError(ConflictError):
    """An idempotency key came again with another body. The first command stands."""

    def __init__(self, key: str, run_id: str) -> None:
        super().__init__(f"idempotency key {key!r} was already used for another request", constraint=None)
        self.key = key
        self.run_id = run_id


class FencedError(StorageError):
    """A newer owner holds this agent; the caller must stop without writing.

    Never retried: the only correct reaction is to drop the activation.
    """

    def __init__(self, agent_id: str, fence: int) -> None:
        super().__init__(f"agent {agent_id!r} is owned under a fence newer than {fence}")
        self.agent_id = agent_id
        self.fence = fence


class StaleBlocksError(StorageError):
    """Blocks changed since they were read; reload them, apply the edits again, and commit again."""

    def __init__(self, agent_id: str, block_ids: tuple[str, ...]) -> None:
        super().__init__(f"blocks {', '.join(block_ids)} of agent {agent_id!r} changed meanwhile")
        self.agent_id = agent_id
        self.block_ids = block_ids


class RefusedError(StorageError):
    """The database refused this one write for its content; repeating it cannot help."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database refused the write: {reason}")


class UnavailableError(StorageError):
    """The database cannot be reached or is not accepting work. Nothing was acknowledged; retry later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database is unavailable: {reason}")


class OwnedError(StorageError):
    """Another live host owns the database; a second server must not start."""

    def __init__(self, owner: str, lease_seconds: float) -> None:
        super().__init__(
            f"host {owner!r} owns this database (its lease runs {lease_seconds:.1f} s more); "
            f"stop it, or start under its name with --host-name {owner}"
        )
        self.owner = owner
        self.lease_seconds = lease_seconds


class EmbeddedError(StorageError):
    """The Postgres that comes with the package cannot be used here; the message names the remedy."""


class SchemaError(StorageError):
    """The database's schema is not one this release can use; the message names the remedy."""


Verdict = Literal["committed", "fenced", "stale"]
