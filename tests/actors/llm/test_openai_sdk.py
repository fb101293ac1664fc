"""What is taken from the official client; fails when a new release of it behaves otherwise."""

import openai
import pytest

from actors.llm.openai_sdk import Sdk
from actors.llm.providers import Provider, provider_for


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that the official client reads by itself and that belong to OpenAI alone."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer ambient\nX-Secret: of-openai")


async def test_openai_gets_its_own_headers() -> None:
    provider = Provider(
        name="openai",
        type="openai",
        base_url="https://api.openai.com/v1",
        api_key="sk-1",
        organization="org-1",
        project="proj-1",
    )
    url, headers = await Sdk(provider).request("/chat/completions")
    assert url == "https://api.openai.com/v1/chat/completions"
    assert headers["authorization"] == "Bearer sk-1"
    assert headers["openai-organization"] == "org-1"
    assert headers["openai-project"] == "proj-1"
    assert headers["content-type"] == "application/json"
    assert "content-length" not in headers


async def test_no_other_server_learns_anything_about_openai() -> None:
    url, headers = await Sdk(provider_for("ollama", "localhost:11434")).request("/chat/completions")
    assert url == "http://localhost:11434/v1/chat/completions"
    assert headers.keys() == {"accept", "content-type"}
    _, headers = await Sdk(provider_for("groq", "https://groq.example/openai/v1", "gsk-1")).request("/x")
    assert headers.keys() == {"accept", "content-type", "authorization"}
    assert headers["authorization"] == "Bearer gsk-1"


async def test_azure_s_url_holds_deployment_and_version() -> None:
    provider = Provider(
        name="azure", type="azure", base_url="https://me.example", api_key="k", azure_api_version="2024-10-21"
    )
    url, headers = await Sdk(provider).request("/deployments/d/chat/completions")
    assert url == "https://me.example/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert headers["api-key"] == "k"


async def test_azure_s_token_is_a_bearer() -> None:
    provider = Provider(
        name="azure", type="azure", base_url="https://me.example", azure_ad_token="t", azure_api_version="1"
    )
    _, headers = await Sdk(provider).request("/deployments/d/chat/completions")
    assert headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, openai.APIStatusError),
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_a_status_has_its_class_its_code_and_its_request_id(
    status: int, kind: type[openai.APIStatusError]
) -> None:
    sdk = Sdk(provider_for("test", "localhost:1", "sk-1"))
    error = await sdk.status_error(
        "/chat/completions",
        status,
        {"X-Request-Id": "req-1", "Content-Encoding": "gzip", "Content-Length": "9999", "Retry-After": "60"},
        b'{"error": {"message": "no", "code": "some_code"}}',
    )
    assert type(error) is kind
    assert error.status_code == status
    assert error.code == "some_code"
    assert error.request_id == "req-1"
    assert error.body == {"message": "no", "code": "some_code"}


async def test_a_body_of_any_kind_is_an_error_too() -> None:
    sdk = Sdk(provider_for("test", "localhost:1"))
    for body in (b"", b"\xff\xfe", b"<html>", b"[1]", b"null"):
        assert (await sdk.status_error("/x", 500, {}, body)).status_code == 500
