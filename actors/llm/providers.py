"""Which model providers are configured, and what is known about their models without asking them."""

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from msgspec import Struct

DEFAULT_WINDOW_TOKENS = 32_000
WINDOW_CAP_TOKENS = 128_000


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
        """Return the base URL without user, password and query."""
        url = urlsplit(self.base_url)
        return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown."""
        password = urlsplit(self.base_url).password
        return tuple(secret for secret in (self.api_key, self.azure_ad_token, password) if secret)


class _Known(Struct, frozen=True):
    """How the environment names a provider. The first variable that is set counts.

    A hosted provider needs a key; a local one needs its base URL (`local`); OpenAI takes either.
    """

    name: str
    keys: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    base_url: str = ""
    default_model: str | None = None
    local: bool = False
    aliases: tuple[str, ...] = ()


_KNOWN = (
    _Known(
        "openai",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        "https://api.openai.com/v1",
        "gpt-4o-mini",
    ),
    _Known(
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
        "https://api.anthropic.com/v1",
        "claude-haiku-4-5",
    ),
    _Known(
        "google_ai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL",),
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
        aliases=("gemini", "google"),
    ),
    _Known(
        "openrouter",
        ("OPENROUTER_API_KEY",),
        ("OPENROUTER_BASE_URL",),
        "https://openrouter.ai/api/v1",
        "openai/gpt-4o-mini",
    ),
    _Known(
        "groq",
        ("GROQ_API_KEY",),
        ("GROQ_BASE_URL",),
        "https://api.groq.com/openai/v1",
        "llama-3.3-70b-versatile",
    ),
    _Known(
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        ("DEEPSEEK_BASE_URL",),
        "https://api.deepseek.com/v1",
        "deepseek-chat",
    ),
    _Known(
        "mistral",
        ("MISTRAL_API_KEY",),
        ("MISTRAL_BASE_URL",),
        "https://api.mistral.ai/v1",
        "mistral-small-latest",
    ),
    _Known("xai", ("XAI_API_KEY",), ("XAI_BASE_URL",), "https://api.x.ai/v1", "grok-4"),
    _Known(
        "together",
        ("TOGETHER_API_KEY",),
        ("TOGETHER_BASE_URL",),
        "https://api.together.xyz/v1",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    _Known("ollama", ("OLLAMA_API_KEY",), ("OLLAMA_BASE_URL",), local=True),
    _Known("vllm", ("VLLM_API_KEY",), ("VLLM_API_BASE", "VLLM_BASE_URL"), local=True),
    _Known(
        "lmstudio",
        ("LMSTUDIO_API_KEY",),
        ("LMSTUDIO_BASE_URL",),
        local=True,
        aliases=("lmstudio_openai", "lm_studio"),
    ),
    _Known(
        "llamacpp",
        ("LLAMACPP_API_KEY",),
        ("LLAMACPP_BASE_URL", "LLAMACPP_API_BASE"),
        local=True,
        aliases=("llama_cpp",),
    ),
)

ALIASES = {alias: known.name for known in _KNOWN for alias in known.aliases}

# Paths of the servers' own APIs, which people give as base URL; the compatible one is beside it at /v1.
_NATIVE_PATHS = frozenset({"", "/api", "/api/v0", "/api/v1"})
_ENDPOINT_PATHS = ("/chat/completions", "/completions", "/embeddings", "/models", "/responses")

# (window, longest answer) by the beginning of a model's name after any "vendor/"; the longest match counts.
# From the providers' model pages, November 2026; used only where a server does not say it itself.
_SIZES: dict[str, tuple[int, int | None]] = {
    "gpt-3.5-turbo": (16_385, 4_096),
    "gpt-4": (8_192, 8_192),
    "gpt-4-turbo": (128_000, 4_096),
    "gpt-4.1": (1_047_576, 32_768),
    "gpt-4o": (128_000, 16_384),
    "gpt-5": (400_000, 128_000),
    "gpt-oss": (131_072, 32_768),
    "o1": (200_000, 100_000),
    "o3": (200_000, 100_000),
    "o4-mini": (200_000, 100_000),
    "claude": (200_000, 8_192),
    "claude-3-haiku": (200_000, 4_096),
    "claude-haiku-4": (200_000, 64_000),
    "claude-sonnet-4": (200_000, 64_000),
    "claude-opus-4": (200_000, 32_000),
    "gemini": (1_048_576, 8_192),
    "gemini-2.5": (1_048_576, 65_536),
    "gemini-3": (1_048_576, 65_536),
    "deepseek": (128_000, 8_192),
    "mistral": (128_000, None),
    "ministral": (128_000, None),
    "magistral": (128_000, None),
    "codestral": (128_000, None),
    "devstral": (128_000, None),
    "grok": (131_072, None),
    "grok-4": (256_000, None),
    "llama-3": (8_192, None),
    "llama-3.1": (131_072, None),
    "llama-3.2": (131_072, None),
    "llama-3.3": (131_072, None),
    "llama-4": (131_072, None),
    "qwen2.5": (32_768, None),
    "qwen3": (40_960, None),
}


def providers_from_env(env: Mapping[str, str]) -> tuple[Provider, ...]:
    """Return the providers that the environment configures, hosted ones first.

    Raises:
        ValueError: A base URL cannot be understood; the message names its variable.
    """
    found = [provider for known in _KNOWN if (provider := _configured(known, env)) is not None]
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


def known_size(name: str) -> tuple[int | None, int | None]:
    """Return (window, longest answer) in tokens as far as the model's name tells."""
    bare = name.rpartition("/")[2].lower().removeprefix("meta-")
    matches = [prefix for prefix in _SIZES if bare.startswith(prefix)]
    return _SIZES[max(matches, key=len)] if matches else (None, None)


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    for name in names:
        if value := env.get(name, "").strip():
            return name, value
    return "", ""


def _configured(known: _Known, env: Mapping[str, str]) -> Provider | None:
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
