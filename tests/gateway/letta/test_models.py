"""Models, and how agents call them, as Letta's clients expect them."""

import json
from typing import Any

import msgspec
import pytest
from letta_client.types import EmbeddingConfig as SdkEmbedding
from letta_client.types import EmbeddingModel as SdkEmbeddingModel
from letta_client.types import LlmConfig as SdkConfig
from letta_client.types import Model as SdkModel

from actors.llm.model import ModelRef
from actors.llm.openai_embeddings import EmbeddingRef
from gateway.letta import models as shown
from storage.records import AgentSettings, ModelSettings

REF = ModelRef(
    handle="openai/gpt-4o-mini",
    name="gpt-4o-mini",
    provider="openai",
    provider_type="openai",
    endpoint="https://api.openai.com/v1",
    context_window_tokens=128_000,
    max_output_tokens=16_384,
)


def settings(**changes: Any) -> AgentSettings:
    return AgentSettings(**{"model": REF.handle, "system": "s", **changes})


def wire(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def test_a_model_passes_the_sdks_own_validation() -> None:
    assert SdkModel.model_validate(wire(shown.model(REF))).model_extra == {"context_window_source": "table"}


def test_model_settings_say_what_holds_where_nothing_was_chosen() -> None:
    assert shown.model_settings(ModelSettings(), REF) == {
        "max_output_tokens": 16_384,
        "parallel_tool_calls": True,
        "strict": False,
        "provider_type": "openai",
        "temperature": 1.0,
        "reasoning": {"reasoning_effort": "minimal"},
        "response_format": None,
    }


@pytest.mark.parametrize("provider", ["anthropic", "demo", "llamacpp", "lmstudio", "mistral", "vllm", "gone"])
def test_every_provider_is_shown_under_a_name_that_typed_clients_know(provider: str) -> None:
    ref = msgspec.structs.replace(REF, provider=provider, provider_type=provider, handle=f"{provider}/m")
    config = SdkConfig.model_validate(wire(shown.llm_config(settings(model=ref.handle), ref)))
    model = SdkModel.model_validate(wire(shown.model(ref)))
    assert config.provider_name == model.provider_name == provider
    assert config.handle == model.handle == f"{provider}/m"
    assert shown.model_settings(ModelSettings(), ref)["provider_type"] in ("openai", provider)


def test_choices_are_shown_as_they_were_made() -> None:
    chosen = ModelSettings(
        temperature=0.0, max_output_tokens=5, reasoning_effort="high", strict=True, extra={"top_p": 0.1}
    )
    state = shown.model_settings(chosen, REF)
    assert (state["temperature"], state["max_output_tokens"], state["top_p"]) == (0.0, 5, 0.1)
    config = shown.llm_config(settings(model_settings=chosen, context_window_tokens=9), REF)
    assert (config.temperature, config.max_tokens, config.context_window) == (0.0, 5, 9)


def test_a_given_embedding_configuration_is_returned_as_it_was() -> None:
    config = {"embedding_model": "m", "embedding_dim": 3, "embedding_endpoint_type": "openai"}
    state = wire(shown.embedding_config(settings(embedding="a/m", embedding_config=config)))
    assert state.items() >= config.items()
    assert SdkEmbedding.model_validate(state).embedding_dim == 3


def test_only_known_embedding_handles_have_a_configuration() -> None:
    known = shown.embedding_config(settings(embedding="openai/text-embedding-3-large"))
    assert known is not None
    assert (known.embedding_dim, known.handle) == (3072, "openai/text-embedding-3-large")
    for handle in ("nobody/knows", None):
        assert shown.embedding_config(settings(embedding=handle)) is None


@pytest.mark.parametrize(
    ("provider_type", "endpoint_type", "shown_type"),
    [
        ("openai", "openai", "openai"),
        ("lmstudio", "lmstudio", "lmstudio_openai"),
        ("ollama", "ollama", "ollama"),
        ("local", "hugging-face", "openai"),
        ("somebody", "openai", "openai"),
    ],
)
def test_every_model_that_embeds_is_shown_with_types_that_clients_know(
    provider_type: str, endpoint_type: str, shown_type: str
) -> None:
    ref = EmbeddingRef(
        handle="p/m", name="m", provider="p", provider_type=provider_type, endpoint=None, dimensions=None
    )
    state = wire(shown.embedding_model(ref))
    model = SdkEmbeddingModel.model_validate(state)
    assert (model.embedding_endpoint_type, model.provider_type) == (endpoint_type, shown_type)
    assert (model.handle, model.embedding_dim, model.api_model_type) == ("p/m", 0, "embedding")
    other = msgspec.structs.replace(ref, handle="a/b", dimensions=3)
    assert [m.handle for m in shown.embedding_models([ref, other])] == ["a/b", "p/m"]


def test_models_are_sorted_by_handle() -> None:
    other = msgspec.structs.replace(REF, handle="a/b")
    assert [m.handle for m in shown.models([REF, other])] == ["a/b", REF.handle]


def test_a_model_whose_provider_is_gone_is_shown_by_its_handle() -> None:
    ref = shown.unresolved("gone/some/model")
    assert (ref.provider, ref.name) == ("gone", "some/model")
    config = SdkConfig.model_validate(wire(shown.llm_config(settings(model="gone/some/model"), ref)))
    assert (config.handle, config.api_model_endpoint_type) == ("gone/some/model", "openai")
