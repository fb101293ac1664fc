"""What clients may write to memory blocks, checked and turned into records. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct

from gateway import decode
from gateway.auth import Caller
from gateway.errors import InvalidRequestError
from gateway.letta.agents import TEMPLATE_FIELDS
from storage.records import Block, BlockChanges, JsonObject

MAX_VALUE_CHARS = 200_000
MAX_DESCRIPTION_CHARS = 10_000
MAX_TAGS = 100
MAX_TAG_CHARS = 256

_DESCRIPTIONS = {
    "human": "What you know about the person you talk with: name, circumstances, preferences, plans.",
    "persona": "Who you are: your character, your manner of speaking, and what you care about.",
}

LimitChars = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class CreateBlock(Struct, frozen=True, kw_only=True):
    """A new memory block. `limit` is shown to the model and not enforced."""

    label: str
    value: str
    limit: LimitChars = 100_000
    description: str | None = None
    read_only: bool = False
    metadata: JsonObject | None = None
    hidden: bool | None = None
    tags: tuple[str, ...] | None = None
    project_id: str | None = None
    template_name: str | None = None
    is_template: bool = False
    template_id: str | None = None
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None
    preserve_on_migration: bool | None = None


class UpdateBlock(Struct, frozen=True, kw_only=True):
    """Changes to a memory block. Absent or null leaves a field as it is."""

    label: str | None = None
    value: str | None = None
    limit: LimitChars | None = None
    description: str | None = None
    read_only: bool | None = None
    metadata: JsonObject | None = None
    hidden: bool | None = None
    tags: tuple[str, ...] | None = None
    project_id: str | None = None
    template_name: str | None = None
    is_template: bool | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None
    preserve_on_migration: bool | None = None


def new_block(request: CreateBlock, *, block_id: str, caller: Caller, at: datetime, param: str = "") -> Block:
    """Return the block that a request asks for. `param` points at the request in its body.

    Raises:
        InvalidRequestError: The label, the value, the description or the tags are not allowed.
    """
    label = decode.label(request.label, param=f"{param}/label")
    return Block(
        id=block_id,
        organization_id=caller.organization_id,
        label=label,
        value=_short(request.value, MAX_VALUE_CHARS, param=f"{param}/value"),
        created_at=at,
        updated_at=at,
        limit_chars=request.limit,
        description=_described(request.description, param=param) or _DESCRIPTIONS.get(label),
        read_only=request.read_only,
        metadata=request.metadata or {},
        hidden=bool(request.hidden),
        tags=tags(request.tags or (), param=f"{param}/tags"),
        project_id=request.project_id,
        template=_template(request),
        created_by_id=caller.user_id,
        last_updated_by_id=caller.user_id,
    )


def changes(request: UpdateBlock, *, caller: Caller) -> BlockChanges:
    """Return what a request changes.

    Raises:
        InvalidRequestError: As `new_block`.
    """
    if request.label is not None:
        decode.label(request.label, param="/label")
    if request.value is not None:
        _short(request.value, MAX_VALUE_CHARS, param="/value")
    _described(request.description, param="")
    template = _template(request)
    return BlockChanges(
        label=UNSET if request.label is None else request.label,
        value=UNSET if request.value is None else request.value,
        limit_chars=UNSET if request.limit is None else request.limit,
        description=UNSET if request.description is None else request.description,
        read_only=UNSET if request.read_only is None else request.read_only,
        metadata=UNSET if request.metadata is None else request.metadata,
        hidden=UNSET if request.hidden is None else request.hidden,
        tags=UNSET if request.tags is None else tags(request.tags, param="/tags"),
        project_id=UNSET if request.project_id is None else request.project_id,
        template=template or UNSET,
        last_updated_by_id=caller.user_id,
    )


def if_version(header: bytes | None) -> int | None:
    """Return the version of the block that `If-Match` names, None without it or for `*` (any).

    Raises:
        InvalidRequestError: It names no version that a server gave out.
    """
    if header is None or header.strip() == b"*":
        return None
    tag = header.strip().strip(b'"')
    if not tag.isdigit() or len(tag) > 18:
        raise InvalidRequestError("If-Match must hold the ETag with which the block was read")
    return int(tag)


def tags(given: Sequence[str], *, param: str) -> tuple[str, ...]:
    """Return the tags without repeats, in the order in which they were given.

    Raises:
        InvalidRequestError: There are too many, or one is empty or too long.
    """
    if len(given) > MAX_TAGS:
        raise InvalidRequestError(
            f"{len(given)} tags were given; at most {MAX_TAGS} are allowed", param=param
        )
    for place, tag in enumerate(given):
        if not 0 < len(tag) <= MAX_TAG_CHARS:
            raise InvalidRequestError(
                f"a tag must have 1 to {MAX_TAG_CHARS} characters", param=f"{param}/{place}"
            )
    return tuple(dict.fromkeys(given))


def _described(text: str | None, *, param: str) -> str | None:
    return None if text is None else _short(text, MAX_DESCRIPTION_CHARS, param=f"{param}/description")


def _short(text: str, limit: int, *, param: str) -> str:
    if len(text) > limit:
        raise InvalidRequestError(
            f"the text has {len(text)} characters; at most {limit} are allowed", param=param
        )
    return text


def _template(request: CreateBlock | UpdateBlock) -> JsonObject:
    """Return the template fields that say something."""
    given = msgspec.structs.asdict(request)
    defaults = {"is_template": False, "preserve_on_migration": False}
    if isinstance(request, CreateBlock):
        return {
            name: given[name] for name in TEMPLATE_FIELDS if given[name] not in (None, defaults.get(name))
        }
    return {name: given[name] for name in TEMPLATE_FIELDS if given[name] is not None}
