"""Providers from the environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm.providers import normalise_base_url, provider_for, providers_from_env
from actors.llm.windows import known_size


@pytest.mark.parametrize(
    ("given_url", "meant"),
    [
        ("localhost:11434", "http://localhost:11434/v1"),
        ("http://localhost:11434/", "http://localhost:11434/v1"),
        ("http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("http://localhost:11434/v1/", "http://localhost:11434/v1"),
        ("http://localhost:11434/api", "http://localhost:11434/v1"),
        ("http://host.docker.internal:1234/api/v0", "http://host.docker.internal:1234/v1"),
        ("http://h:8000/v1/chat/completions", "http://h:8000/v1"),
        ("http://h:8000/v1/models/", "http://h:8000/v1"),
        ("https://gate.example/openai/v1", "https://gate.example/openai/v1"),
        ("  http://h:8000 ", "http://h:8000/v1"),
        ("[::1]:8080", "http://[::1]:8080/v1"),
    ],
)
def test_a_base_url_is_read_as_it_was_meant(given_url: str, meant: str) -> None:
    assert normalise_base_url(given_url, local=True) == meant
    assert normalise_base_url(meant, local=True) == meant


@pytest.mark.parametrize(
    "wrong", ["", "http://", "ftp://h", "file:///etc/passwd", "http://h:port", "http:///v1"]
)
def test_what_is_no_http_address_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        normalise_base_url(wrong)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        url = normalise_base_url(text)
    except ValueError:
        return
    assert url.startswith(("http://", "https://"))


def test_nothing_is_configured_by_an_empty_environment() -> None:
    assert providers_from_env({}) == ()
    assert providers_from_env({"OPENAI_API_KEY": "  ", "OLLAMA_BASE_URL": ""}) == ()


def test_every_known_variable_configures_its_provider() -> None:
    env = {
        "OPENAI_API_KEY": "k1",
        "OPENAI_ORG_ID": "org-1",
        "ANTHROPIC_API_KEY": "k2",
        "GEMINI_API_KEY": "k3",
        "OPENROUTER_API_KEY": "k4",
        "GROQ_API_KEY": "k5",
        "DEEPSEEK_API_KEY": "k6",
        "MISTRAL_API_KEY": "k7",
        "XAI_API_KEY": "k8",
        "TOGETHER_API_KEY": "k9",
        "OLLAMA_BASE_URL": "http://localhost:11434",
        "VLLM_API_BASE": "http://localhost:8000",
        "LMSTUDIO_BASE_URL": "http://localhost:1234/api/v0",
        "LLAMACPP_BASE_URL": "http://localhost:8080/v1/",
        "AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/",
        "AZURE_OPENAI_API_KEY": "k10",
    }
    found = {provider.name: provider for provider in providers_from_env(env)}
    assert list(found) == [
        "openai", "azure", "anthropic", "google_ai", "openrouter", "groq", "deepseek", "mistral", "xai",
        "together", "ollama", "vllm", "lmstudio", "llamacpp",
    ]  # fmt: skip
    assert found["openai"].organization == "org-1"
    assert found["groq"].organization is None
    assert found["groq"].api_key == "k5"
    assert found["ollama"].base_url == "http://localhost:11434/v1"
    assert found["lmstudio"].base_url == "http://localhost:1234/v1"
    assert found["azure"].base_url == "https://me.openai.azure.com"
    assert found["azure"].azure_api_version
    assert found["google_ai"].base_url.endswith("/v1beta/openai")


def test_openai_s_base_url_alone_is_a_server_without_a_key() -> None:
    (only,) = providers_from_env({"OPENAI_BASE_URL": "localhost:4000"})
    assert only.base_url == "http://localhost:4000/v1"
    assert only.api_key == ""
    assert only.default_model is None


def test_a_wrong_address_names_its_variable() -> None:
    with pytest.raises(ValueError, match="OLLAMA_BASE_URL"):
        providers_from_env({"OLLAMA_BASE_URL": "ftp://x"})
    with pytest.raises(ValueError, match="AZURE_OPENAI_ENDPOINT"):
        providers_from_env({"AZURE_OPENAI_ENDPOINT": "ftp://x", "AZURE_OPENAI_API_KEY": "k"})


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    provider = provider_for("mine", "http://me:hunter2@host:1/v1?key=abc", "sk-1")
    assert provider.endpoint == "http://host:1/v1"
    assert provider.secrets == ("sk-1", "hunter2")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gpt-4o-mini", (128_000, 16_384)),
        ("openai/gpt-4.1-nano", (1_047_576, 32_768)),
        ("gpt-4", (8_192, 8_192)),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", (131_072, None)),
        ("something-else", (None, None)),
    ],
)
def test_known_sizes_go_by_the_longest_prefix(name: str, size: tuple[int | None, int | None]) -> None:
    assert known_size(name) == size
