"""Routes of passages beyond what the SDK shows: models that fail, empty bodies, hostile queries."""

from typing import Any

import anyio
import pytest

from actors import archival
from bench.provider import Provider
from bench.replies import Reply
from bench.wire import DIMENSIONS
from storage.pool import Pool, connection
from tests.gateway.rest.talking import new_agent, talking
from tests.serving import Served

EMBEDDER = "openai/embedder"


async def embedding_agent(served: Served) -> str:
    return await new_agent(served, embedding=EMBEDDER)


async def stored(served: Served) -> int:
    async with connection(served.pool) as conn:
        return await conn.fetchval("select count(*) from passages")


async def test_a_memory_is_embedded_by_the_model_that_the_agent_chose(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        path = f"/v1/agents/{await embedding_agent(served)}/archival-memory"
        (made,) = await served.json("POST", path, json={"text": "tea"})
        assert made["embedding_config"]["handle"] == EMBEDDER
        assert len(made["embedding"]) == made["embedding_config"]["embedding_dim"] == DIMENSIONS
        (archive,) = await served.json("GET", "/v1/archives/")
        assert archive["embedding_config"]["handle"] == EMBEDDER
        found = await served.json("GET", f"{path}/search", params={"query": "coffee"})
        assert [r["id"] for r in found["results"]] == [made["id"]]


AWAY = (
    Reply(embeddings=True, status=503, headers={"retry-after": "0"}, repeat=9),
    Reply(embeddings=True, status=401, repeat=9),
    Reply(embeddings=True, body={"data": [{"index": 0, "embedding": ["a"] * 8}]}, repeat=9),
    Reply(embeddings=True, body={"data": [{"index": 0, "embedding": [[0.1]] * 8}]}, repeat=9),
    Reply(embeddings=True, body={"data": [{"index": 0, "embedding": [1e300] * 8}]}, repeat=9),
    Reply(embeddings=True, body={"data": [{"index": 0, "embedding": [0.0] * 8}]}, repeat=9),
)


@pytest.mark.parametrize("reply", AWAY)
async def test_a_memory_is_kept_while_its_model_is_away_and_its_words_find_it(
    pool: Pool, provider: Provider, reply: Reply
) -> None:
    async with talking(pool, provider) as served:
        path = f"/v1/agents/{await embedding_agent(served)}/archival-memory"
        await served.json("POST", path, json={"text": "tea"})
        await provider.script([reply])
        (kept,) = await served.json("POST", path, json={"text": "coffee"})
        assert (kept["embedding"], kept["embedding_config"]) == (None, None)
        found = await served.json("GET", f"{path}/search", params={"query": "coffee"})
        assert kept["id"] in [r["id"] for r in found["results"]]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_memory_that_its_model_refuses_is_not_stored(
    pool: Pool, provider: Provider, status: int
) -> None:
    async with talking(pool, provider) as served:
        path = f"/v1/agents/{await embedding_agent(served)}/archival-memory"
        await provider.script([Reply(embeddings=True, status=status, repeat=9)])
        refused = await served.json("POST", path, json={"text": "coffee"}, status=400)
        assert refused["error"]["type"] == "embedding_error"
        assert EMBEDDER in refused["detail"] or "openai" in refused["detail"]
        assert await stored(served) == 0


async def test_memories_are_written_and_found_without_reading_the_window_of_the_agent(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids of a window of 10,000 messages cost four times what the search itself does."""
    async with talking(pool, provider) as served:
        agent_id = await embedding_agent(served)
        path = f"/v1/agents/{agent_id}/archival-memory"

        async def refuse(*_: object, **__: object) -> None:
            raise AssertionError("the whole agent is read")

        monkeypatch.setattr("storage.agents.get", refuse)
        (made,) = await served.json("POST", path, json={"text": "tea"})
        found = await served.json("GET", f"{path}/search", params={"query": "tea"})
        assert [r["id"] for r in found["results"]] == [made["id"]]
        body = {"query": "tea", "agent_id": agent_id}
        (hit,) = await served.json("POST", "/v1/passages/search", json=body)
        assert hit["passage"]["id"] == made["id"]


async def vectors(served: Served) -> int:
    async with connection(served.pool) as conn:
        return await conn.fetchval("select count(*) from passages where embedding_model = $1", EMBEDDER)


@pytest.mark.timeout(90)
async def test_what_was_kept_without_vectors_gets_them_when_its_model_is_back(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        path = f"/v1/agents/{await embedding_agent(served)}/archival-memory"
        archive = await served.json("POST", "/v1/archives/", json={"name": "a", "embedding": EMBEDDER})
        inside = f"/v1/archives/{archive['id']}/passages"
        await provider.script([Reply(embeddings=True, status=401, repeat="forever")])
        await served.json("POST", path, json={"text": "coffee"})
        one = await served.json("POST", inside, json={"text": "tea"})
        many = [{"text": f"cup{n}"} for n in range(archival.PORTION + 1)]
        kept = await served.json("POST", f"{inside}/batch", json={"passages": many})
        assert [one["embedding"], *(p["embedding"] for p in kept)] == [None] * (len(many) + 1)
        hits = await served.json(
            "POST", "/v1/passages/search", json={"query": "tea", "archive_id": archive["id"]}
        )
        assert hits[0]["passage"]["id"] == one["id"]
        await provider.reset()
        with anyio.fail_after(60):
            while await vectors(served) < len(many) + 2:
                await anyio.sleep(0.05)


async def test_deletes_answer_as_letta_does(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await embedding_agent(served)
        path = f"/v1/agents/{agent_id}/archival-memory"
        (made,) = await served.json("POST", path, json={"text": "tea"})
        done = await served.json("DELETE", f"{path}/{made['id']}")
        assert done == {"message": f"Memory {made['id']} was deleted"}
        archive = made["archive_id"]
        inside = await served.json("POST", f"/v1/archives/{archive}/passages", json={"text": "coffee"})
        for gone in (f"/v1/archives/{archive}/passages/{inside['id']}", f"/v1/archives/{archive}"):
            response = await served.http.delete(gone)
            assert (response.status_code, response.content) == (204, b"")
            assert (await served.http.delete(gone)).status_code == 404


async def test_malformed_requests_are_refused(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        path = f"/v1/agents/{await embedding_agent(served)}/archival-memory"
        for query in ("", "?query=x&top_k=0", "?query=x&tag_match_mode=some", "?query=x&start_datetime=soon"):
            assert (await served.http.get(f"{path}/search{query}")).status_code == 422, query
        assert (await served.http.delete(f"{path}/message-1")).status_code == 422
        assert (await served.http.post(path, json={"text": 3})).status_code == 422
        assert (await served.http.post("/v1/passages/search", json={"limit": 101})).status_code == 422
        missing = "passage-00000000-0000-4000-8000-000000000000"
        assert (await served.http.get(f"{path}?before={missing}")).status_code == 404


HOSTILE: tuple[Any, ...] = (
    "",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(a+)+$" + "a" * 50 + "!",
    "& | ! ( : *",
    "(",
    "' union select * from api_keys--",
    "word " * 5000,
)


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_query_is_data(pool: Pool, provider: Provider, query: str) -> None:
    async with talking(pool, provider) as served:
        path = f"/v1/agents/{await embedding_agent(served)}/archival-memory"
        await served.json("POST", path, json={"text": "tea"})
        answer = await served.json("POST", "/v1/passages/search", json={"query": query})
        assert [hit["passage"]["text"] for hit in answer] == ["tea"]
        filtered = await served.json("POST", "/v1/passages/search", json={"tags": [query[:200] or "'"]})
        assert filtered == []
        short = query[:500]
        await served.json("GET", path, params={"search": short})
        found = await served.json("GET", f"{path}/search", params={"query": short})
        assert found["count"] == bool(short.strip())
