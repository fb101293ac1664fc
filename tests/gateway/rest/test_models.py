"""The routes of models."""

from typing import Any

from actors.host import HostSettings
from actors.llm.providers import provider_for
from bench.provider import Provider
from storage.pool import Pool
from tests.serving import serving


async def test_the_models_of_every_provider_are_listed(pool: Pool, provider: Provider) -> None:
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:

        async def handles(**params: Any) -> list[str]:
            return [m["handle"] for m in await served.json("GET", "/v1/models/", params=params)]

        every = await handles()
        assert every == sorted(every)
        assert "demo/scripted" in every
        openai = await handles(provider_name="openai")
        assert openai == [handle for handle in every if handle.startswith("openai/")]
        assert openai
        assert await handles(provider_category=["base"]) == every
        assert await handles(provider_category=["byok"]) == []
        assert await handles(provider_type="anthropic") == []


async def test_models_that_embed_are_listed_with_the_local_one(pool: Pool, provider: Provider) -> None:
    async with serving(pool, providers=[provider_for("openai", provider.base_url, "sk-test")]) as served:
        models = await served.json("GET", "/v1/models/embedding")
        assert [(m["handle"], m["embedding_dim"], m["embedding_endpoint_type"]) for m in models] == [
            ("local/minilm-l6-v2-int8", 384, "hugging-face"),
            ("openai/text-embedding-3-small", 1536, "openai"),
        ]


async def test_no_model_embeds_where_embeddings_are_off(pool: Pool) -> None:
    async with serving(pool, host_settings=HostSettings(embedding="off")) as served:
        assert await served.json("GET", "/v1/models/embedding") == []
