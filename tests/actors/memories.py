"""Memory blocks that are stored nowhere, for tests of what is decided purely."""

from datetime import UTC, datetime

from actors.memory_edits import Birth
from storage.records import DEFAULT_ORGANIZATION, Block

BORN = datetime(2026, 1, 1, tzinfo=UTC)


def block(
    value: str = "", *, label: str = "human", read_only: bool = False, description: str | None = None
) -> Block:
    """Return a block of version 7 whose id follows from its label."""
    return Block(
        id=f"block-{label}",
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value=value,
        created_at=BORN,
        updated_at=BORN,
        read_only=read_only,
        description=description,
        version=7,
    )


def held(**values: str) -> dict[str, Block]:
    """Return blocks by label."""
    return {label: block(value, label=label) for label, value in values.items()}


def newborn(label: str) -> Block:
    """Return an empty block that a step creates."""
    return Block(
        id=f"block-new-{label}",
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value="",
        created_at=BORN,
        updated_at=BORN,
    )


BIRTH = Birth(newborn)
