"""Finds the model that a handle means, and lists the models that can be called."""

import builtins
import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import cast

import anyio
import msgspec

from actors import clock
from actors.errors import ModelError, UnknownModelError
from actors.llm import http
from actors.llm import providers as known
from actors.llm.demo import DemoModel
from actors.llm.http import Endpoint, OpenAIChat
from actors.llm.model import Model, ModelRef
from actors.llm.providers import Provider, provider_for, providers_from_env
from actors.llm.wire import Wire

__all__ = ["Catalog", "Provider", "provider_for", "providers_from_env"]

LIST_DEADLINE = 3.0
LIST_TTL = 60.0
# The provider name under which the models of the default base URL are listed.
FALLBACK = "default"
# Names of unconfigured providers come from clients; beyond this many their endpoints are not kept.
MOST_BORROWED = 256

_WINDOW_FIELDS = (
    "loaded_context_length",  # LM Studio
    "max_model_len",  # vLLM
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # Mistral
    "inputTokenLimit",  # Google
)
# Models that a provider lists and that do not chat.
_NOT_FOR_CHAT = re.compile(
    r"embed|whisper|tts|dall-e|moderation|realtime|transcribe|audio|image|sora|davinci-002|babbage|rerank"
    r"|guard|ocr|imagen|veo|aqa|speech|codex-mini|deep-research|computer-use",
    re.IGNORECASE,
)


class Catalog:
    """The models of the configured providers, and `demo/scripted`, which needs none.

    `default_handle` is a person's choice of default model. `default_base_url` is where handles of
    providers that are not configured go, whatever their provider's name. Close it with `aclose`.
    """

    def __init__(
        self,
        providers: Iterable[Provider] = (),
        *,
        wire: Wire | None = None,
        default_handle: str | None = None,
        default_base_url: str | None = None,
        default_api_key: str = "",
        demo: DemoModel | None = None,
    ) -> None:
        self.wire = wire or Wire()
        self._demo = demo or DemoModel()
        self._endpoints = {provider.name: Endpoint(provider, self.wire) for provider in providers}
        self._fallback: Provider | None = None
        if default_base_url is not None:
            self._fallback = provider_for(FALLBACK, default_base_url, default_api_key)
            self._endpoints[FALLBACK] = Endpoint(self._fallback, self.wire)
        self._borrowed: dict[str, Endpoint] = {}
        self._default_handle = default_handle
        self._listed: dict[str, dict[str, ModelRef]] = {}
        self._listed_until = -1.0
        self._listing = anyio.Lock()

    @property
    def default(self) -> str | None:
        """Return the handle of agents that name none.

        The setting, else the first configured provider's usual model or first listed one, else the demo.
        """
        if self._default_handle is not None:
            return self._default_handle
        for name, endpoint in self._endpoints.items():
            if endpoint.provider.default_model is not None:
                return f"{name}/{endpoint.provider.default_model}"
            for ref in self._listed.get(name, {}).values():
                return ref.handle
        return self._demo.ref.handle

    def resolve(self, handle: str) -> Model:
        """Return the model of `provider/name`. The model itself need not be listed anywhere.

        Raises:
            UnknownModelError: No provider of this name is configured.
        """
        if handle == self._demo.ref.handle:
            return self._demo
        provider_name, _, name = handle.partition("/")
        endpoint = self._endpoint(provider_name) if name else None
        if endpoint is None:
            raise UnknownModelError(handle, tuple(ref.handle for ref in self._known()))
        ref = self._listed.get(endpoint.provider.name, {}).get(name)
        return OpenAIChat(ref or _ref(endpoint.provider, name, {}), endpoint)

    async def list(self) -> builtins.list[ModelRef]:
        """Return every model that is known to be callable, the demo last.

        Asks each provider at most every 60 s, all at once, and waits at most 3 s. A provider that does
        not answer keeps what it listed before, which is nothing at first.
        """
        async with self._listing:
            if clock.monotonic() >= self._listed_until:
                async with anyio.create_task_group() as group:
                    for endpoint in self._endpoints.values():
                        group.start_soon(self._ask, endpoint.provider)
                self._listed_until = clock.monotonic() + LIST_TTL
        return self._known()

    async def warm(self) -> None:
        """Load what the first model call would have to wait for."""
        if self._endpoints:
            await http.warm()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.wire.aclose()

    def _known(self) -> builtins.list[ModelRef]:
        listed = (ref for name in self._endpoints for ref in self._listed.get(name, {}).values())
        return [*listed, self._demo.ref]

    def _endpoint(self, name: str) -> Endpoint | None:
        name = known.ALIASES.get(name, name)
        endpoint = self._endpoints.get(name) or self._borrowed.get(name)
        if endpoint is None and self._fallback is not None and name != self._demo.ref.provider:
            kind = msgspec.structs.replace(self._fallback, name=name, type=name)
            endpoint = Endpoint(kind, self.wire)
            if len(self._borrowed) < MOST_BORROWED:
                self._borrowed[name] = endpoint
        return endpoint

    async def _ask(self, provider: Provider) -> None:
        if not provider.lists_models:
            return
        with anyio.move_on_after(LIST_DEADLINE), contextlib.suppress(ModelError):
            self._listed[provider.name] = _refs(provider, await self.wire.list_models(provider))


def _refs(provider: Provider, answer: object) -> dict[str, ModelRef]:
    """Read `{"data": […]}`, or the bare list that some send."""
    if isinstance(answer, Mapping):
        answer = cast("Mapping[str, object]", answer).get("data")
    if not isinstance(answer, builtins.list):
        return {}
    refs: dict[str, ModelRef] = {}
    for item in cast("builtins.list[object]", answer):
        if not isinstance(item, Mapping):
            continue
        entry = cast("Mapping[str, object]", item)
        name = entry.get("id")
        if isinstance(name, str) and name and not _NOT_FOR_CHAT.search(name):
            name = name.removeprefix("models/")  # Google's
            refs.setdefault(name, _ref(provider, name, entry))
    return refs


def _ref(provider: Provider, name: str, entry: Mapping[str, object]) -> ModelRef:
    window, longest = known.known_size(name)
    window = _said_window(entry) or window or known.DEFAULT_WINDOW_TOKENS
    return ModelRef(
        handle=f"{provider.name}/{name}",
        name=name,
        provider=provider.name,
        provider_type=provider.type,
        endpoint=provider.endpoint,
        context_window_tokens=min(window, known.WINDOW_CAP_TOKENS),
        max_output_tokens=longest,
    )


def _said_window(entry: Mapping[str, object]) -> int | None:
    meta = entry.get("meta")  # llama.cpp
    trained = cast("Mapping[str, object]", meta).get("n_ctx_train") if isinstance(meta, Mapping) else None
    for value in (*(entry.get(field) for field in _WINDOW_FIELDS), trained):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
