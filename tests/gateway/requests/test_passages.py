"""What clients may write to archives and ask of them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec import UNSET

from gateway.auth import Caller
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta.models import EmbeddingConfig
from gateway.requests import passages as requests
from gateway.requests.passages import (
    CreateArchive,
    CreateArchivePassage,
    CreateArchivePassages,
    CreatePassage,
    UpdateArchive,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
CALLER = Caller(name="test")


def new(**fields: object) -> object:
    request = CreateArchivePassage(**{"text": "x", **fields})  # type: ignore[arg-type]
    return requests.new_passage(request, archive_id="archive-1", caller=CALLER, at=AT)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, AT),
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01T10:00:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01T10:00:00+02:00", datetime(2024, 5, 1, 8, tzinfo=UTC)),
        ("2024-05-01T10:00:00Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_passage_may_say_when_it_was_written(given: str | None, meant: datetime) -> None:
    assert getattr(new(created_at=given), "created_at") == meant  # noqa: B009


@pytest.mark.parametrize(
    "fields",
    [
        {"text": ""},
        {"text": " \n"},
        {"created_at": "tomorrow"},
        {"created_at": "0001-01-01"},
        {"created_at": "9999-12-31"},
        {"tags": ("",)},
        {"tags": ("x" * 300,)},
        {"tags": tuple(map(str, range(101)))},
    ],
)
def test_what_makes_no_passage_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        new(**fields)


@pytest.mark.parametrize("text", ["word " * 8193, "x" * 200_001, "слово " * 8193])
def test_a_text_that_is_too_long_for_one_passage_is_refused(text: str) -> None:
    with pytest.raises(BadArgumentError, match="at most 8192 tokens: split it up"):
        new(text=text)


def test_metadata_belongs_to_archives_only() -> None:
    plain = requests.new_passage(CreatePassage(text="x"), archive_id="", caller=CALLER, at=AT)
    assert (plain.metadata, plain.archive_id, plain.vector) == ({}, "", None)
    assert getattr(new(metadata={"a": 1}), "metadata") == {"a": 1}  # noqa: B009


def test_an_error_in_a_batch_points_at_its_passage() -> None:
    request = CreateArchivePassages(passages=(CreateArchivePassage(text="x"), CreateArchivePassage(text="")))
    with pytest.raises(InvalidRequestError) as caught:
        requests.new_passages(request, archive_id="archive-1", caller=CALLER, at=AT)
    assert caught.value.param == "/passages/1/text"
    many = CreateArchivePassages(passages=(CreateArchivePassage(text="x"),) * 1001)
    with pytest.raises(BadArgumentError, match="at most 1000"):
        requests.new_passages(many, archive_id="archive-1", caller=CALLER, at=AT)


def test_an_archive_names_its_model_by_handle_or_configuration() -> None:
    def chosen(**fields: object) -> str | None:
        request = CreateArchive(name="a", **fields)  # type: ignore[arg-type]
        return requests.new_archive(request, caller=CALLER, at=AT).embedding

    config = EmbeddingConfig(embedding_endpoint_type="openai", embedding_model="m", embedding_dim=3)
    assert chosen() is None
    assert chosen(embedding="openai/m") == "openai/m"
    assert chosen(embedding_config=config) == "openai/m"
    assert chosen(embedding="letta/letta-free") is None
    for name in ("", " ", "x" * 257):
        with pytest.raises(InvalidRequestError):
            requests.new_archive(CreateArchive(name=name), caller=CALLER, at=AT)


def test_absent_fields_leave_an_archive_as_it_is() -> None:
    changes = requests.archive_changes(UpdateArchive(description="d"), caller=CALLER)
    assert (changes.name, changes.description) == (UNSET, "d")


def test_a_span_is_in_the_agents_timezone_and_a_date_is_a_whole_day() -> None:
    names, paris = ("a", "b"), ZoneInfo("Europe/Paris")
    start, end = requests.span("2024-05-02", "2024-05-02", names=names, here=paris)
    assert start == datetime(2024, 5, 1, 22, tzinfo=UTC)
    assert end is not None
    assert end > datetime(2024, 5, 2, 21, 59, tzinfo=UTC)
    assert requests.span("2024-05-02T10:00:00 02:00", None, names=names, here=UTC)[0] == datetime(
        2024, 5, 2, 8, tzinfo=UTC
    )
    for wrong in (("soon", None), ("2024-05-02", "2024-05-01")):
        with pytest.raises(InvalidRequestError):
            requests.span(*wrong, names=names, here=UTC)
