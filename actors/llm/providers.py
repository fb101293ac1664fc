"""Which model providers are configured: read from the environment, or named by a base URL."""

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from msgspec import Struct

from actors.llm.known import ALIASES, KNOWN, Known


def showable(url: str) -> str:
    """Return a URL without user, password and query: these may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Provider(Struct, frozen=True, kw_only=True):
    """A configured endpoint. `name` is the first half of its models' handles; `type` chooses its dialect.

    `base_url` ends before `/chat/completions` and may hold credentials; `endpoint` is for showing.
    """

    name: str
    type: str
    base_url: str
    api_key: str = ""
    organization: str | None = None
    project: str | None = None
    azure_api_version: str | None = None
    azure_ad_token: str | None = None
    default_model: str | None = None
    lists_models: bool = True

    @property
    def call_url(self) -> str:
        """Return the base URL for calls. A key counts more than a user in the URL; servers take one."""
        url = urlsplit(self.base_url)
        return (
            urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])) if self.api_key else self.base_url
        )

    @property
    def endpoint(self) -> str:
        """Return the base URL as it may be shown."""
        return showable(self.base_url)

    @property
    def has_responses(self) -> bool:
        """Whether `/responses` may be there. Azure has it from one dated version of its API on.

        "Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview and later"
        (github.com/Aider-AI/aider/issues/4029); versions without a date are later ones.
        """
        version = self.azure_api_version or ""
        return not version[:1].isdigit() or version >= AZURE_RESPONSES_FROM

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown."""
        password = urlsplit(self.base_url).password
        return tuple(secret for secret in (self.api_key, self.azure_ad_token, password) if secret)


AZURE_RESPONSES_FROM = "2025-03-01"
# Paths of the servers' own APIs, which people give as base URL; the compatible one is beside it at /v1.
_NATIVE_PATHS = frozenset({"", "/api", "/api/v0", "/api/v1"})
_ENDPOINT_PATHS = ("/chat/completions", "/completions", "/embeddings", "/models", "/responses")


def providers_from_env(env: Mapping[str, str]) -> tuple[Provider, ...]:
    """Return the providers that the environment configures, hosted ones first.

    Raises:
        ValueError: A base URL cannot be understood; the message names its variable.
    """
    found = [provider for known in KNOWN if (provider := _configured(known, env)) is not None]
    if (azure := _azure(env)) is not None:
        found.insert(1 if found and found[0].name == "openai" else 0, azure)
    return tuple(found)


def provider_for(name: str, base_url: str, api_key: str = "") -> Provider:
    """Return a provider of any name at an OpenAI-compatible base URL.

    Raises:
        ValueError: The base URL cannot be understood.
    """
    return Provider(
        name=name, type=ALIASES.get(name, name), base_url=normalise_base_url(base_url), api_key=api_key
    )


def normalise_base_url(text: str, *, local: bool = False) -> str:
    """Return the base URL that a person meant: scheme and `/v1` added, endpoint paths cut off.

    `local` servers' own API paths (Ollama's `/api`, LM Studio's `/api/v0`) become `/v1`.

    Raises:
        ValueError: It names no host, or is no http address.
    """
    text = text.strip()
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("not an http address")
    _ = url.port  # raises ValueError where the port is no number
    path = url.path.rstrip("/")
    for endpoint in _ENDPOINT_PATHS:
        path = path.removesuffix(endpoint)
    path = path.rstrip("/")
    if not path or (local and path in _NATIVE_PATHS):
        path = "/v1"
    return urlunsplit(SplitResult(url.scheme, url.netloc, path, url.query, ""))


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    for name in names:
        if value := env.get(name, "").strip():
            return name, value
    return "", ""


def _configured(known: Known, env: Mapping[str, str]) -> Provider | None:
    _, key = _first(env, known.keys)
    variable, url = _first(env, known.urls)
    if not (url if known.local else key or (url and known.name == "openai")):
        return None
    try:
        base_url = normalise_base_url(url, local=known.local) if url else known.base_url
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from error
    at_home = base_url == known.base_url
    return Provider(
        name=known.name,
        type=known.name,
        base_url=base_url,
        api_key=key,
        organization=env.get("OPENAI_ORG_ID") if known.name == "openai" else None,
        project=env.get("OPENAI_PROJECT_ID") if known.name == "openai" else None,
        # Somebody else's server behind a known name need not have that model.
        default_model=known.default_model if at_home else None,
    )


def _azure(env: Mapping[str, str]) -> Provider | None:
    _, key = _first(env, ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"))
    _, token = _first(env, ("AZURE_OPENAI_AD_TOKEN",))
    variable, url = _first(env, ("AZURE_OPENAI_ENDPOINT", "AZURE_BASE_URL"))
    _, version = _first(env, ("AZURE_OPENAI_API_VERSION", "AZURE_API_VERSION", "OPENAI_API_VERSION"))
    if not url or not (key or token):
        return None
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{variable}: not an http address")
    return Provider(
        name="azure",
        type="azure",
        base_url=f"{parts.scheme}://{parts.netloc}",
        api_key=key,
        azure_ad_token=token or None,
        azure_api_version=version or "2024-10-21",
        lists_models=False,  # Azure lists base models, not the deployments that can be called
    )
