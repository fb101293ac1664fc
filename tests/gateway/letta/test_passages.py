"""Archives and passages in the shape of Letta's clients."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from gateway.letta import passages as letta_passages
from storage.archive_records import Archive
from storage.passages import PassageHit
from tests.storage.libraries import passage

AT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


def test_an_archive_without_a_model_shows_none() -> None:
    bare = Archive(id="archive-1", organization_id="org-1", name="a", created_at=AT, updated_at=AT)
    assert letta_passages.archive(bare).embedding_config is None
    assert letta_passages.archive(bare).vector_db_provider == "native"


def test_the_local_model_is_shown_under_a_type_that_clients_know() -> None:
    local = Archive(
        id="archive-1",
        organization_id="org-1",
        name="a",
        created_at=AT,
        updated_at=AT,
        embedding="local/minilm-l6-v2-int8",
        dimensions=384,
    )
    config = letta_passages.archive(local).embedding_config
    assert config is not None
    assert (config.embedding_endpoint_type, config.embedding_dim) == ("hugging-face", 384)
    assert (config.embedding_model, config.handle) == ("minilm-l6-v2-int8", "local/minilm-l6-v2-int8")


def test_a_passage_shows_its_vector_and_its_model() -> None:
    shown = letta_passages.passage(passage("x", 0, tags=("a",), dimensions=3))
    assert shown.embedding == (1.0, 0.0, 0.0)
    assert shown.embedding_config is not None
    assert shown.embedding_config.embedding_dim == 3
    bare = letta_passages.passage(passage("x"))
    assert (bare.embedding, bare.embedding_config) == (None, None)


def test_what_was_found_says_when_in_the_agents_timezone_and_how() -> None:
    hit = PassageHit(
        passage=passage("x", day=0), score=0.75, search_mode="hybrid", vector_rank=2, fts_rank=None
    )
    found = letta_passages.memories([hit], here=ZoneInfo("America/New_York"))
    assert (found.count, found.results[0].timestamp) == (1, "2025-12-31T19:00:00-05:00")
    searched = letta_passages.searched(hit, dimensions=3)
    assert searched.score == 0.75
    assert searched.metadata == {"search_mode": "hybrid", "vector_rank": 2, "fts_rank": None}
