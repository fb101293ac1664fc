"""What the doctor sees of the models: each endpoint is listed and then really asked, within deadlines."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio
from msgspec import Struct
from msgspec.structs import replace

from actors.errors import EmbeddingError, ModelError, UnknownModelError
from actors.llm import providers as known
from actors.llm.catalog import FALLBACK, Catalog
from actors.llm.demo import DEMO
from actors.llm.embed import Embeddings
from actors.llm.model import ModelRef
from actors.llm.providers import Provider
from actors.llm.wire import Timeouts, Wire
from gateway.config import Settings
from gateway.doctor import calls, probes
from gateway.doctor.calls import Surgery
from gateway.doctor.findings import Finding, Show, error, mebibytes, ok, warning
from gateway.model_catalog import open_catalog

LIST_SECONDS = 10.0
CLOSE_SECONDS = 5.0
SHOWN_NAMES = 5
_EMBEDS = re.compile(r"embed|bge-|minilm|gte-|e5-", re.IGNORECASE)


class _Listing(Struct, frozen=True):
    names: tuple[str, ...] = ()
    failure: Finding | None = None


async def examine(
    settings: Settings,
    providers: Sequence[Provider],
    env: Mapping[str, str],
    show: Show,
    *,
    deadline: float,
) -> None:
    """Probe every endpoint that is configured or found, and show the results.

    Costs a few hundred tokens for each.
    """
    catalog = open_catalog(settings, providers, env, Timeouts(first_token=deadline, idle=deadline))
    try:
        async with asyncio.TaskGroup() as tasks:  # of the local embedding model
            embeddings = Embeddings(
                catalog,
                lambda work: tasks.create_task(work()),
                chosen=settings.embedding,
                base_url=settings.embedding_base_url,
                api_key=settings.embedding_api_key,
            )
            surgery = Surgery(catalog=catalog, embeddings=embeddings, deadline=deadline, show=show)
            try:
                await _examine_all(surgery, settings)
            finally:
                await _close(embeddings)
    finally:
        await catalog.aclose()


async def _close(embeddings: Embeddings) -> None:
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        await embeddings.aclose()


async def _examine_all(surgery: Surgery, settings: Settings) -> None:
    show, catalog = surgery.show, surgery.catalog
    show.looking("asking for lists of models")
    await catalog.list()
    for provider in catalog.providers:
        await _examine_provider(surgery, provider, settings.model)
    show.found(_default(catalog))
    show.found(await _search(surgery))


def _default(catalog: Catalog) -> Finding:
    handle = catalog.default
    if handle is None or handle == DEMO.handle:
        return warning(
            "default model",
            f"agents get {DEMO.handle}, which is a script and no language model",
            remedy="set OPENAI_API_KEY, or OPENAI_BASE_URL for Ollama, vLLM, LM Studio, llama.cpp …",
        )
    try:
        catalog.resolve(handle)
    except UnknownModelError as problem:
        return error("default model", str(problem), remedy="set WAKEFUL_MODEL to a model of these")
    return ok("default model", f"agents get {handle} unless they name one")


async def _examine_provider(surgery: Surgery, provider: Provider, wanted: str | None) -> None:
    show = surgery.show
    show.looking(f"{provider.name}: asking for its list of models")
    listing = await _list(surgery.catalog.wire, provider)
    show.found(listing.failure or _listed(provider, listing.names))
    ref = await _chosen(surgery, provider, wanted)
    if ref is None:
        if listing.failure is None:
            show.found(
                warning(
                    f"{provider.name} chat",
                    "it names no model that chats, so none was asked",
                    remedy="load one there, or name one with WAKEFUL_MODEL",
                )
            )
        return
    await probes.converse(surgery, provider, ref, known_names=listing.names)
    show.found(await _embeddings(surgery, provider, listing.names))


async def _list(wire: Wire, provider: Provider) -> _Listing:
    if not provider.lists_models:
        return _Listing()
    try:
        with anyio.fail_after(LIST_SECONDS):
            answer = await wire.list_models(provider)
    except ModelError as problem:
        return _Listing(failure=calls.refused(f"{provider.name} models", provider, problem))
    except TimeoutError:
        text = f"{provider.endpoint} did not list its models within {LIST_SECONDS:.0f} s"
        return _Listing(failure=error(f"{provider.name} models", text, remedy="see whether it is overloaded"))
    entries: Any = cast("Mapping[str, Any]", answer).get("data") if isinstance(answer, Mapping) else answer
    if not isinstance(entries, list):
        return _Listing(
            failure=error(
                f"{provider.name} models",
                f"{provider.endpoint}/models is no list of models",
                remedy="the base URL must end where /chat/completions begins, usually with /v1",
            )
        )
    ids = [
        cast("Mapping[str, Any]", e).get("id") for e in cast("list[Any]", entries) if isinstance(e, Mapping)
    ]
    return _Listing(names=tuple(str(name).removeprefix("models/") for name in ids if name))


def _listed(provider: Provider, names: tuple[str, ...]) -> Finding:
    check = f"{provider.name} models"
    if not provider.lists_models:
        return ok(check, f"{provider.endpoint} lists no models; agents name them")
    if not names:
        return warning(check, f"{provider.endpoint} lists no model", remedy="load or pull a model there")
    shown = ", ".join(names[:SHOWN_NAMES]) + (" …" if len(names) > SHOWN_NAMES else "")
    return ok(check, f"{provider.endpoint} lists {len(names)}: {shown}")


async def _chosen(surgery: Surgery, provider: Provider, wanted: str | None) -> ModelRef | None:
    """Return the model to ask: the configured one, else the provider's usual one, else its first."""
    if wanted is not None:
        owner = wanted.partition("/")[0]
        if known.ALIASES.get(owner, owner) == provider.name or provider.name == FALLBACK:
            return surgery.catalog.resolve(wanted).ref
    if provider.default_model is not None:
        return surgery.catalog.resolve(f"{provider.name}/{provider.default_model}").ref
    for ref in await surgery.catalog.list():
        if ref.provider == provider.name:
            return ref
    return None


async def _embeddings(surgery: Surgery, provider: Provider, names: tuple[str, ...]) -> Finding:
    """Ask the first embedding model that an endpoint lists."""
    check = f"{provider.name} embeddings"
    model = next((name for name in names if _EMBEDS.search(name)), None)
    if model is None:
        return ok(check, "it lists no embedding model; none was asked")
    if surgery.embeddings.handle_for(None) is None:
        return ok(check, "embeddings are switched off; none was asked")
    return await _embed(surgery, check, f"{provider.name}/{model}")


async def _search(surgery: Surgery) -> Finding:
    """Ask the embedding model that is used where none is named."""
    check = "search"
    handle = surgery.embeddings.default
    if handle is None:
        return ok(check, "by words alone: embeddings are switched off, or there is no model")
    finding = await _embed(surgery, check, handle)
    local = surgery.embeddings.status()
    if local.state != "running":
        return finding
    text = f"{finding.text}, in a process of its own with {mebibytes(local.rss_bytes)} while it is wanted"
    return replace(finding, text=text)


async def _embed(surgery: Surgery, check: str, handle: str) -> Finding:
    surgery.show.looking(f"{handle}: waiting for an embedding, at most {surgery.deadline:.0f} s")
    try:
        made = await surgery.embeddings.embed(["one"], model=handle, timeout=surgery.deadline)
    except EmbeddingError as problem:
        return warning(
            check,
            f"{handle}: {problem}",
            remedy="name another embedding model with WAKEFUL_EMBEDDING, or off",
        )
    return ok(check, f"{handle} gives {made.dimensions} dimensions")
