"""Finds model servers on their usual loopback ports, and asks local ones what their models can do."""

import builtins
import contextlib
from collections.abc import Collection, Mapping
from typing import cast
from urllib.parse import urlsplit

import anyio
from msgspec.structs import replace

from actors.errors import ModelError
from actors.llm import windows
from actors.llm.known import KNOWN, Known, native_of
from actors.llm.loose import object_of, objects
from actors.llm.model import ModelRef
from actors.llm.providers import Provider, provider_for
from actors.llm.windows import Said
from actors.llm.wire import Wire

PROBE_SECONDS = 0.5
DETAIL_SECONDS = 2.0
# Models of one server that are asked about, and how many at once.
MOST_DETAILS = 200
AT_ONCE = 8


def usual(name: str) -> Provider | None:
    """Return a kind of local server at its usual port, whether it listens there or not."""
    for known in KNOWN:
        if known.name == name and known.port is not None:
            return provider_for(known.name, f"http://127.0.0.1:{known.port}/v1")
    return None


async def find(
    wire: Wire, *, but: Collection[str], ports_to_skip: Collection[int]
) -> builtins.list[Provider]:
    """Return the servers that answer on loopback as a model server does, within half a second.

    Kinds of servers in `but` are not looked for, and `ports_to_skip` are never connected to: ours is one.
    """
    found: dict[str, Provider] = {}

    async def probe(known: Known) -> None:
        provider = usual(known.name)
        assert provider is not None
        with anyio.move_on_after(PROBE_SECONDS), contextlib.suppress(ModelError):
            answer = await wire.list_models(provider)
            if (kind := _kind(answer, known.name)) is not None:
                found.setdefault(kind, replace(provider, name=kind, type=kind))

    async with anyio.create_task_group() as group:
        for known in KNOWN:
            if known.port is not None and known.port not in ports_to_skip and known.name not in but:
                group.start_soon(probe, known)
    return [found[known.name] for known in KNOWN if known.name in found and known.name not in but]


def _kind(answer: object, usual_name: str) -> str | None:
    """Return which kind of server answered, `None` where it is none: the port alone proves nothing.

    A server of ours, and others that list something else at this path, answer in another shape.
    """
    listed = object_of(answer).get("data")
    if not isinstance(listed, builtins.list):
        return None
    owners = {str(entry.get("owned_by")) for entry in objects(cast("object", listed))}
    return next((known.name for known in KNOWN if owners & set(known.owners)), usual_name)


async def details(wire: Wire, provider: Provider, refs: Mapping[str, ModelRef]) -> dict[str, ModelRef]:
    """Return the models with what their server's native API says of them, but those that do not chat.

    Waits at most two seconds; what has not answered by then stays as it was listed.
    """
    said: dict[str, Said] = {}
    with anyio.move_on_after(DETAIL_SECONDS), contextlib.suppress(ModelError):
        match native_of(provider.type):
            case "ollama":
                await _ask_ollama(wire, provider, builtins.list(refs)[:MOST_DETAILS], said)
            case "lmstudio":
                answer = await wire.ask(provider, f"{_root(provider)}/api/v0/models")
                entries = objects(object_of(answer).get("data"))
                said |= {str(entry.get("id")): windows.lmstudio(entry) for entry in entries}
            case "llamacpp":
                props = windows.llamacpp(await wire.ask(provider, f"{_root(provider)}/props"))
                said |= dict.fromkeys(refs, props)
            case "none":
                pass
    return {
        name: _with(ref, said[name]) if name in said else ref
        for name, ref in refs.items()
        if _chats(said, name)
    }


async def _ask_ollama(
    wire: Wire, provider: Provider, names: builtins.list[str], said: dict[str, Said]
) -> None:
    loaded = windows.ollama_loaded(await wire.ask(provider, f"{_root(provider)}/api/ps"))
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def show(name: str) -> None:
        async with limiter:
            with contextlib.suppress(ModelError):
                answer = await wire.ask(provider, f"{_root(provider)}/api/show", {"model": name})
                if isinstance(answer, Mapping):
                    said[name] = windows.ollama(cast("Mapping[str, object]", answer), loaded.get(name))

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(show, name)


def _root(provider: Provider) -> str:
    url = urlsplit(provider.call_url)
    return f"{url.scheme}://{url.netloc}"


def _chats(said: Mapping[str, Said], name: str) -> bool:
    return name not in said or said[name].chats


def _with(ref: ModelRef, said: Said) -> ModelRef:
    window = windows.window(ref.name, said.window_tokens)
    known = said.window_tokens is not None
    return replace(
        ref,
        context_window_tokens=window.tokens if known else ref.context_window_tokens,
        max_output_tokens=window.answer_tokens if known else ref.max_output_tokens,
        window_source=window.source if known else ref.window_source,
        native_tools=ref.native_tools if said.native_tools is None else said.native_tools,
        images=ref.images if said.images is None else said.images,
    )
