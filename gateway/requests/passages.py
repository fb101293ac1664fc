"""What clients may write to archives and ask of them, checked and turned into records. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct

from actors.archival import MAX_TOKENS
from actors.clock import new_id
from actors.llm.embed import SERVERS_CHOICE
from actors.tokens import estimate
from actors.tools import moments
from actors.tools.results import ToolError
from gateway.auth import Caller
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta.models import EmbeddingConfig
from gateway.requests import blocks
from storage.archive_records import Archive, ArchiveChanges, Passage
from storage.records import JsonObject

MAX_NAME_CHARS = 256
MAX_DESCRIPTION_CHARS = 10_000
MAX_TEXT_CHARS = 200_000  # more cannot be 8192 tokens of any language
MAX_BATCH = 1000

TagMatch = Literal["any", "all"]


class CreatePassage(Struct, frozen=True, kw_only=True):
    """A new memory of an agent. `created_at` is ISO 8601; without an offset it is UTC.

    While its embedding model is away it is stored without a vector and embedded later. A text that the model
    refuses is not stored.
    """

    text: str
    tags: tuple[str, ...] | None = None
    created_at: str | None = None


class CreateArchivePassage(CreatePassage, frozen=True, kw_only=True):
    """A new passage of an archive. Without its embedding model it is stored like a memory of an agent."""

    metadata: JsonObject | None = None


class CreateArchivePassages(Struct, frozen=True, kw_only=True):
    """New passages of an archive: all of them are stored, or none."""

    passages: tuple[CreateArchivePassage, ...]


class CreateArchive(Struct, frozen=True, kw_only=True):
    """A new archive. `embedding` is the handle of its passages' model; else the first of them settles it."""

    name: str
    description: str | None = None
    embedding: str | None = None
    embedding_config: Annotated[EmbeddingConfig | None, Meta(description="Deprecated: use `embedding`.")] = (
        None
    )


class UpdateArchive(Struct, frozen=True, kw_only=True):
    """Changes to an archive. Absent or null leaves a field as it is."""

    name: str | None = None
    description: str | None = None


class SearchPassages(Struct, frozen=True, kw_only=True):
    """What to find in an agent's archives, in one archive, or in all. Without a query the newest come."""

    query: str | None = None
    agent_id: str | None = None
    archive_id: str | None = None
    tags: tuple[str, ...] | None = None
    tag_match_mode: TagMatch = "any"
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    start_date: str | None = None
    end_date: str | None = None


def new_passage(
    request: CreatePassage, *, archive_id: str, caller: Caller, at: datetime, param: str = ""
) -> Passage:
    """Return the passage that a request asks for, without its vector. `param` points at the request.

    Raises:
        InvalidRequestError: The text is empty, a tag or the time is not allowed.
        BadArgumentError: The text is too long to be one passage.
    """
    if not request.text.strip():
        raise InvalidRequestError("the text of a passage must not be empty", param=f"{param}/text")
    _check_length(request.text, param=f"{param}/text")
    created_at = (
        at if request.created_at is None else _instant(request.created_at, param=f"{param}/created_at")
    )
    return Passage(
        id=new_id("passage"),
        organization_id=caller.organization_id,
        archive_id=archive_id,
        text=request.text,
        created_at=created_at,
        updated_at=at,
        tags=blocks.tags(request.tags or (), param=f"{param}/tags"),
        metadata=(request.metadata or {}) if isinstance(request, CreateArchivePassage) else {},
        created_by_id=caller.user_id,
        last_updated_by_id=caller.user_id,
    )


def new_passages(
    request: CreateArchivePassages, *, archive_id: str, caller: Caller, at: datetime
) -> list[Passage]:
    """Return the passages that a request asks for, each a microsecond after the one before.

    Raises:
        InvalidRequestError, BadArgumentError: See `new_passage`; also where there are too many.
    """
    if len(request.passages) > MAX_BATCH:
        raise BadArgumentError(
            f"{len(request.passages)} passages were sent; at most {MAX_BATCH} are stored at once",
            param="/passages",
        )
    return [
        new_passage(
            one,
            archive_id=archive_id,
            caller=caller,
            at=at + timedelta(microseconds=place),
            param=f"/passages/{place}",
        )
        for place, one in enumerate(request.passages)
    ]


def new_archive(request: CreateArchive, *, caller: Caller, at: datetime) -> Archive:
    """Return the archive that a request asks for.

    Raises:
        InvalidRequestError: The name is empty, or a text is too long.
    """
    config = request.embedding_config
    chosen = request.embedding
    if chosen is None and config is not None:
        chosen = config.handle or f"{config.embedding_endpoint_type}/{config.embedding_model}"
    return Archive(
        id=new_id("archive"),
        organization_id=caller.organization_id,
        name=_name(request.name),
        description=_description(request.description),
        embedding=None if not chosen or chosen.startswith(SERVERS_CHOICE) else chosen,
        created_at=at,
        updated_at=at,
        created_by_id=caller.user_id,
        last_updated_by_id=caller.user_id,
    )


def archive_changes(request: UpdateArchive, *, caller: Caller) -> ArchiveChanges:
    """Return what a request changes.

    Raises:
        InvalidRequestError: As `new_archive`.
    """
    return ArchiveChanges(
        name=UNSET if request.name is None else _name(request.name),
        description=UNSET if request.description is None else _description(request.description),
        last_updated_by_id=caller.user_id,
    )


def span(
    start: str | None, end: str | None, *, names: tuple[str, str], here: tzinfo
) -> tuple[datetime | None, datetime | None]:
    """Return the time span of a search. Without an offset its ends are in `here`; a date is a whole day.

    Raises:
        InvalidRequestError: An end cannot be read, or the span is empty.
    """
    first, last = names
    given = {first: _unescaped(start), last: _unescaped(end)}
    try:
        return moments.span(given, first, last, here=here)
    except ToolError as error:
        raise InvalidRequestError(str(error), param=f"/{first}") from error


def tags(given: Sequence[str] | None, *, param: str) -> tuple[str, ...]:
    """Return the tags that are searched for.

    Raises:
        InvalidRequestError: There are too many, or one is empty or too long.
    """
    return blocks.tags(given or (), param=param)


def _check_length(text: str, *, param: str) -> None:
    if len(text) > MAX_TEXT_CHARS:
        size = f"{len(text)} characters"
    elif (tokens := estimate(text)) > MAX_TOKENS:
        size = f"about {tokens} tokens"
    else:
        return
    raise BadArgumentError(
        f"the text has {size}; a passage holds at most {MAX_TOKENS} tokens: split it up", param=param
    )


def _unescaped(text: str | None) -> str | None:
    """Mend the `+` of an offset that a query string turned into a space."""
    return text if text is None else text[:19] + text[19:].replace(" ", "+")


def _instant(text: str, *, param: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError("expected a time as ISO 8601 writes it", param=param) from None
    if not 1 < at.year < 9999:  # any timezone must be able to show it
        raise InvalidRequestError("the year is out of range", param=param)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _name(name: str) -> str:
    if not 0 < len(name.strip()) <= len(name) <= MAX_NAME_CHARS:
        raise InvalidRequestError(f"a name must have 1 to {MAX_NAME_CHARS} characters", param="/name")
    return name


def _description(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_DESCRIPTION_CHARS:
        raise InvalidRequestError(
            f"the text has {len(text)} characters; at most {MAX_DESCRIPTION_CHARS} are allowed",
            param="/description",
        )
    return text
