"""Finds the model that a handle means, and lists the models that can be called."""

import builtins
import contextlib
import re
from collections.abc import Collection, Iterable, Mapping

import anyio
import msgspec

from actors import clock
from actors.errors import ModelError, UnknownModelError
from actors.llm import discovery, http, windows
from actors.llm.demo import DemoModel
from actors.llm.habits import Preferences
from actors.llm.http import Endpoint, OpenAIChat
from actors.llm.known import ALIASES
from actors.llm.loose import object_of, objects
from actors.llm.model import Model, ModelRef
from actors.llm.openai_embeddings import IS_FOR_EMBEDDING
from actors.llm.providers import Provider, provider_for, providers_from_env
from actors.llm.windows import Said
from actors.llm.wire import Wire

__all__ = ["Catalog", "Provider", "provider_for", "providers_from_env"]

LIST_DEADLINE = 3.0
LIST_TTL = 60.0
# The provider name under which the models of the default base URL are listed.
FALLBACK = "default"
# Names of unconfigured providers come from clients; beyond this many their endpoints are not kept.
MOST_BORROWED = 256

# Models that a provider lists and that do not chat.
_NOT_FOR_CHAT = re.compile(
    r"embed|whisper|tts|dall-e|moderation|realtime|transcribe|audio|image|sora|davinci-002|babbage|rerank"
    r"|guard|ocr|imagen|veo|aqa|speech|codex-mini|deep-research|computer-use",
    re.IGNORECASE,
)


class Catalog:
    """The models of the configured providers, and `demo/scripted`, which needs none.

    `default_handle` is a person's choice of default model. `default_base_url` is where handles of
    providers that are not configured go, whatever their provider's name. With `own_ports`, local model
    servers are looked for on their usual loopback ports except those; without, they are not. `chosen`
    is how a person wants models spoken to. Close it with `aclose`.
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
        own_ports: Collection[int] | None = None,
        chosen: Preferences | None = None,
    ) -> None:
        self.wire = wire or Wire()
        self._own_ports = own_ports
        self._chosen = chosen
        self._found: dict[str, Endpoint] = {}  # on loopback
        self._demo = demo or DemoModel()
        self._endpoints = {provider.name: Endpoint(provider, self.wire, chosen) for provider in providers}
        self._fallback: Provider | None = None
        if default_base_url is not None:
            self._fallback = provider_for(FALLBACK, default_base_url, default_api_key)
            self._endpoints[FALLBACK] = Endpoint(self._fallback, self.wire, chosen)
        self._borrowed: dict[str, Endpoint] = {}
        self._default_handle = default_handle
        self._listed: dict[str, dict[str, ModelRef]] = {}
        self._embedders: dict[str, builtins.list[str]] = {}
        self._listed_until = -1.0
        self._listing = anyio.Lock()

    @property
    def default(self) -> str | None:
        """Return the handle of agents that name none.

        The setting, else the first configured provider's usual model or first listed one, else the first
        model found on loopback, else the demo.
        """
        if self._default_handle is not None:
            return self._default_handle
        for name, endpoint in self._all.items():
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
        return OpenAIChat(ref or _ref(endpoint.provider, name, Said()), endpoint)

    async def list(self) -> builtins.list[ModelRef]:
        """Return every model that is known to be callable, the demo last.

        Asks each provider at most every 60 s, all at once, and waits at most 3 s for them, besides the half
        second in which local servers are looked for. A provider that does not answer keeps what it listed
        before, which is nothing at first.
        """
        async with self._listing:
            if clock.monotonic() >= self._listed_until:
                await self._discover()
                await self._ask_all()
                self._listed_until = clock.monotonic() + LIST_TTL
        return self._known()

    @property
    def providers(self) -> builtins.list[Provider]:
        """Return the configured providers, the default base URL's, then those found on loopback."""
        return [endpoint.provider for endpoint in self._all.values()]

    def endpoint(self, provider_name: str) -> Endpoint | None:
        """Return the endpoint that serves a provider's handles, or `None` where it is not configured."""
        return self._endpoint(provider_name)

    async def list_embedders(self) -> builtins.list[tuple[Provider, str]]:
        """Return the models that embed: provider and name of each. Asks as `list` does."""
        await self.list()
        return [
            (endpoint.provider, model)
            for name, endpoint in self._all.items()
            for model in self._embedders.get(name, ())
        ]

    async def warm(self) -> None:
        """Load what the first model call would have to wait for."""
        if self._all:
            await http.warm()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.wire.aclose()

    def _known(self) -> builtins.list[ModelRef]:
        listed = (ref for name in self._all for ref in self._listed.get(name, {}).values())
        return [*listed, self._demo.ref]

    def _endpoint(self, name: str) -> Endpoint | None:
        name = ALIASES.get(name, name)
        endpoint = self._endpoints.get(name) or self._found.get(name) or self._borrowed.get(name)
        if (
            endpoint is None
            and name != self._demo.ref.provider
            and (kind := self._unlisted(name)) is not None
        ):
            endpoint = Endpoint(kind, self.wire, self._chosen)
            if len(self._borrowed) < MOST_BORROWED:
                self._borrowed[name] = endpoint
        return endpoint

    def _unlisted(self, name: str) -> Provider | None:
        """Return the provider of another name: the default one, else a local server that may start yet."""
        if self._fallback is not None:
            return msgspec.structs.replace(self._fallback, name=name, type=name)
        return None if self._own_ports is None else discovery.usual(name)

    @property
    def _all(self) -> dict[str, Endpoint]:
        return {**self._endpoints, **self._found}

    async def _discover(self) -> None:
        """Look for local servers. One that is gone keeps its endpoint, for its agents, but lists nothing."""
        if self._own_ports is None:
            return
        found = await discovery.find(self.wire, but=self._endpoints.keys(), ports_to_skip=self._own_ports)
        for name in self._found.keys() - {provider.name for provider in found}:
            self._borrowed[name] = self._found.pop(name)
            self._listed.pop(name, None)
        for provider in found:
            if provider.name not in self._found:
                self._found[provider.name] = self._borrowed.pop(provider.name, None) or Endpoint(
                    provider, self.wire, self._chosen
                )

    async def _ask_all(self) -> None:
        async with anyio.create_task_group() as group:
            for endpoint in self._all.values():
                group.start_soon(self._ask, endpoint.provider)

    async def _ask(self, provider: Provider) -> None:
        if not provider.lists_models:
            return
        with anyio.move_on_after(LIST_DEADLINE), contextlib.suppress(ModelError):
            answer = await self.wire.list_models(provider)
            refs = _refs(provider, answer)
            self._embedders[provider.name] = _embedders(answer)
            if not self._listed.get(provider.name):
                self._listed[provider.name] = refs  # their details may come too late
            self._listed[provider.name] = await discovery.details(self.wire, provider, refs)


def _entries(answer: object) -> builtins.list[Mapping[str, object]]:
    """Read `{"data": […]}`, or the bare list that some send."""
    return objects(object_of(answer).get("data", answer))


def _refs(provider: Provider, answer: object) -> dict[str, ModelRef]:
    refs: dict[str, ModelRef] = {}
    for entry in _entries(answer):
        name = entry.get("id")
        if isinstance(name, str) and name and not _NOT_FOR_CHAT.search(name):
            name = name.removeprefix("models/")  # Google's
            refs.setdefault(name, _ref(provider, name, windows.listed(entry)))
    return refs


def _embedders(answer: object) -> builtins.list[str]:
    names = (entry.get("id") for entry in _entries(answer))
    return [
        name.removeprefix("models/")
        for name in names
        if isinstance(name, str) and IS_FOR_EMBEDDING.search(name)
    ]


def _ref(provider: Provider, name: str, said: Said) -> ModelRef:
    window = windows.window(name, said.window_tokens)
    return ModelRef(
        handle=f"{provider.name}/{name}",
        name=name,
        provider=provider.name,
        provider_type=provider.type,
        endpoint=provider.endpoint,
        context_window_tokens=window.tokens,
        max_output_tokens=window.answer_tokens,
        window_source=window.source,
        native_tools=said.native_tools,
        images=said.images,
    )
