"""The official SDK stores, lists, finds and deletes memories of agents and passages of archives."""

from datetime import UTC, datetime

import pytest
from letta_client import BadRequestError, Letta, NotFoundError, UnprocessableEntityError

from storage.pool import Pool
from tests.contract.sdk import with_sdk

MISSING_PASSAGE = "passage-00000000-0000-4000-8000-000000000000"
MISSING_ARCHIVE = "archive-00000000-0000-4000-8000-000000000000"


async def test_a_memory_is_stored_listed_found_in_other_words_and_deleted(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(timezone="Europe/Paris")
        (tea,) = client.agents.passages.create(
            agent.id, text="She drinks green tea at breakfast.", tags=["habits", "drinks"]
        )
        (car,) = client.agents.passages.create(
            agent.id,
            text="The car is parked in lot B17.",
            created_at=datetime(2024, 5, 1, 22, 30, tzinfo=UTC),
        )
        assert tea.embedding is not None
        assert tea.embedding_config is not None
        assert len(tea.embedding) == tea.embedding_config.embedding_dim
        assert tea.tags == ["habits", "drinks"]
        assert tea.archive_id == car.archive_id
        assert [p.id for p in client.agents.passages.list(agent.id)] == [car.id, tea.id]
        assert [p.id for p in client.agents.passages.list(agent.id, ascending=False, limit=1)] == [tea.id]
        assert [p.id for p in client.agents.passages.list(agent.id, after=car.id)] == [tea.id]
        assert [p.id for p in client.agents.passages.list(agent.id, before=tea.id)] == [car.id]
        assert [p.id for p in client.agents.passages.list(agent.id, search="LOT b1")] == [car.id]

        found = client.agents.passages.search(agent.id, query="Which hot beverage does the woman like?")
        assert found.results[0].id == tea.id
        found = client.agents.passages.search(agent.id, query="where did we leave the vehicle", top_k=1)
        assert (found.count, found.results[0].content) == (1, "The car is parked in lot B17.")
        assert found.results[0].timestamp == "2024-05-02T00:30:00+02:00"
        assert found.results[0].tags == []
        assert client.agents.passages.search(agent.id, query="   ").count == 0
        assert client.agents.passages.search(agent.id, query="tea", tags=["absent"]).count == 0
        both = client.agents.passages.search(
            agent.id, query="car", tags=["habits", "drinks"], tag_match_mode="all"
        )
        assert [r.id for r in both.results] == [tea.id]
        day = client.agents.passages.search(
            agent.id, query="tea", start_datetime="2024-05-02", end_datetime="2024-05-02"
        )
        assert [r.id for r in day.results] == [car.id]

        client.agents.passages.delete(tea.id, agent_id=agent.id)
        assert [p.id for p in client.agents.passages.list(agent.id)] == [car.id]

    await with_sdk(pool, scenario)


async def test_the_prompt_says_how_many_memories_there_are(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create()

        def system() -> str:
            (message,) = client.agents.messages.list(agent.id).items
            return str(getattr(message, "content", ""))

        assert "total memories" not in system()
        (first,) = client.agents.passages.create(agent.id, text="one")
        assert "- 1 total memories are in archival memory" in system()
        (passage,) = client.agents.passages.create(agent.id, text="two")
        assert "- 2 total memories" in system()
        archive = client.archives.create(name="handbook")
        client.archives.passages.create(archive.id, text="three")
        client.agents.archives.attach(archive.id, agent_id=agent.id)
        assert "- 3 total memories" in system()
        client.agents.passages.delete(first.id, agent_id=agent.id)
        assert "- 2 total memories" in system()
        client.agents.archives.detach(archive.id, agent_id=agent.id)
        assert "- 1 total memories" in system()
        assert passage.archive_id != archive.id

    await with_sdk(pool, scenario)


async def test_an_archive_is_made_changed_shared_and_deleted(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        one, other = client.agents.create(name="one"), client.agents.create(name="other")
        archive = client.archives.create(name="handbook", description="How we work")
        assert archive.embedding_config is None
        assert archive.vector_db_provider == "native"
        assert client.archives.update(archive.id, name="rules").name == "rules"
        assert client.archives.retrieve(archive.id).description == "How we work"
        client.agents.archives.attach(archive.id, agent_id=one.id)
        client.agents.archives.attach(archive.id, agent_id=one.id)
        client.agents.archives.attach(archive.id, agent_id=other.id)
        single = client.archives.passages.create(
            archive.id, text="Expenses are paid back within ten days.", metadata={"page": 3}, tags=["money"]
        )
        many = client.archives.passages.create_many(
            archive.id, passages=[{"text": "The office closes at 6 pm."}, {"text": "Badge code is QX-4417."}]
        )
        assert single.metadata == {"page": 3}
        assert [p.text for p in many] == ["The office closes at 6 pm.", "Badge code is QX-4417."]
        assert client.archives.retrieve(archive.id).embedding_config is not None

        for agent in (one, other):
            found = client.agents.passages.search(agent.id, query="When do I get my money back?", top_k=1)
            assert [r.id for r in found.results] == [single.id]
        hits = client.passages.search(query="QX-4417", archive_id=archive.id, limit=1)
        assert [h.passage.id for h in hits] == [many[1].id]
        assert hits[0].metadata is not None
        assert hits[0].metadata["search_mode"] == "hybrid"
        assert hits[0].metadata["fts_rank"] == 1
        assert len(client.passages.search(agent_id=one.id)) == 3

        assert [a.id for a in client.archives.list(agent_id=other.id)] == [archive.id]
        assert [a.id for a in client.archives.list(name="rules")] == [archive.id]
        assert list(client.archives.list(name="absent")) == []
        client.archives.passages.delete(many[0].id, archive_id=archive.id)
        assert len(client.agents.passages.list(one.id)) == 2
        client.agents.archives.detach(archive.id, agent_id=other.id)
        assert client.agents.passages.list(other.id) == []
        client.archives.delete(archive.id)
        assert client.agents.passages.list(one.id) == []
        with pytest.raises(NotFoundError):
            client.archives.retrieve(archive.id)

    await with_sdk(pool, scenario)


async def test_archives_page_by_cursor(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = [client.archives.create(name=f"a{n}").id for n in range(5)]
        assert [a.id for a in client.archives.list(limit=2)] == made[::-1]
        assert [a.id for a in client.archives.list(limit=2, order="asc")] == made
        assert [a.id for a in client.archives.list(after=made[1], order="asc", limit=1).items] == [made[2]]

    await with_sdk(pool, scenario)


async def test_an_agent_that_goes_takes_its_memories_along_but_no_shared_archive(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        one, other = client.agents.create(), client.agents.create()
        client.agents.passages.create(one.id, text="mine alone")
        (shared,) = client.agents.passages.create(other.id, text="for both")
        client.agents.archives.attach(shared.archive_id or "", agent_id=one.id)
        client.agents.delete(one.id)
        assert [h.passage.text for h in client.passages.search()] == ["for both"]
        client.agents.delete(other.id)
        assert client.passages.search() == []

    await with_sdk(pool, scenario)


async def test_what_is_missing_is_not_found_and_what_is_wrong_is_refused(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent, archive = client.agents.create(), client.archives.create(name="a")
        other = client.archives.passages.create(archive.id, text="of the archive")
        for call in (
            lambda: client.agents.passages.list(agent.id, after=MISSING_PASSAGE),
            lambda: client.agents.passages.delete(MISSING_PASSAGE, agent_id=agent.id),
            lambda: client.agents.passages.delete(other.id or "", agent_id=agent.id),
            lambda: client.agents.archives.attach(MISSING_ARCHIVE, agent_id=agent.id),
            lambda: client.archives.retrieve(MISSING_ARCHIVE),
            lambda: client.archives.update(MISSING_ARCHIVE, name="x"),
            lambda: client.archives.delete(MISSING_ARCHIVE),
            lambda: client.archives.list(after=MISSING_ARCHIVE),
            lambda: client.archives.passages.create(MISSING_ARCHIVE, text="x"),
            lambda: client.archives.passages.delete(MISSING_PASSAGE, archive_id=archive.id),
            lambda: client.passages.search(query="x", archive_id=MISSING_ARCHIVE),
        ):
            with pytest.raises(NotFoundError):
                call()
        with pytest.raises(BadRequestError, match="8192 tokens"):
            client.agents.passages.create(agent.id, text="word " * 8193 * 2)
        for text in ("? " * 8193, "1x" * 8193):  # more tokens than their length lets one think
            with pytest.raises(BadRequestError, match="8192 tokens"):
                client.agents.passages.create(agent.id, text=text)
            with pytest.raises(BadRequestError, match="8192 tokens"):
                client.archives.passages.create_many(archive.id, passages=[{"text": "x"}, {"text": text}])
        with pytest.raises(UnprocessableEntityError, match="must not be empty"):
            client.agents.passages.create(agent.id, text="  ")
        with pytest.raises(UnprocessableEntityError):
            client.archives.passages.create(archive.id, text="x", created_at="soon")
        with pytest.raises(BadRequestError, match="no provider 'nobody' is configured"):
            client.archives.passages.create(
                client.archives.create(name="b", embedding="nobody/model").id, text="x"
            )

    await with_sdk(pool, scenario)


async def test_passages_that_were_sent_together_are_listed_in_their_order(pool: Pool) -> None:
    texts = [f"passage {place}" for place in range(12)]

    def scenario(client: Letta) -> None:
        agent = client.agents.create(model="demo/scripted", embedding=None)
        archive = client.archives.create(name="facts")
        client.agents.archives.attach(archive.id, agent_id=agent.id)
        made = client.archives.passages.create_many(archive.id, passages=[{"text": text} for text in texts])
        assert [passage.text for passage in made] == texts
        assert [passage.text for passage in client.agents.passages.list(agent.id)] == texts

    await with_sdk(pool, scenario)
