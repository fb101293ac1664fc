"""The settings of one server: one frozen value, made once from flags and the environment."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway import cors

PREFIX = "WAKEFUL_"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Days = Annotated[float, Meta(gt=0, le=366 * 86_400)]
Bound = Annotated[int, Meta(ge=1, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=1024 * 1024, le=2**40)]


class SettingsError(Exception):
    """A setting cannot be used; the message names it and the remedy."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


def _says(text: str) -> Meta:
    return Meta(description=text)


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be configured. `load` makes it; every field is a flag and a variable."""

    host: Annotated[str, _says("Address to listen on. Anything but a loopback address needs an API key.")] = (
        "127.0.0.1"
    )
    port: Annotated[Annotated[int, Meta(ge=1, le=65535)], _says("Port to listen on.")] = 8283
    data_dir: Annotated[
        str | None,
        _says(
            "Directory of the embedded Postgres, the host's name and its lock. Unset: `/var/lib/wakeful` "
            "for root, else `wakeful` in the user's data directory. With a database URL it holds only "
            "the host's name and lock."
        ),
    ] = None
    database_url: Annotated[
        str | None, _says("Postgres to use. Unset: the Postgres that comes with the package is started.")
    ] = None
    api_key: Annotated[
        str | None,
        _says(
            "Key that every request shows, but health checks and scripts of `/static`. Unset: loopback only."
        ),
    ] = None
    jwt_secret: Annotated[
        str | None,
        _says(
            "Secret of at least 32 bytes with which JWTs (HS256) are signed that open the websocket, AG-UI "
            "and AI SDK endpoints beside the API key. Unset: only the key does."
        ),
    ] = None
    cors_origins: Annotated[
        str | None,
        _says(
            "Origins like `https://app.example`, separated by commas, or `*`: their pages may call the "
            "AG-UI, AI SDK and ticket routes. Without an API key only those of this machine may. "
            "Unset: none."
        ),
    ] = None
    model: Annotated[
        str | None, _says("Model handle `provider/name` of agents that are created without one.")
    ] = None
    embedding: Annotated[
        str | None,
        _says(
            "Embedding model handle `provider/name` of agents and archives that name none, or `off`: search "
            "then goes by words alone. Unset: the first provider's usual model, else the local one."
        ),
    ] = None
    embedding_base_url: Annotated[
        str | None,
        _says("OpenAI-compatible endpoint for embeddings alone; its handles begin with `embedding/`."),
    ] = None
    embedding_api_key: Annotated[str | None, _says("Key of that endpoint.")] = None
    embedder_idle: Annotated[
        Seconds, _says("Idle seconds after which the process of the local embedding model is stopped.")
    ] = 600.0
    host_name: Annotated[
        str | None,
        _says(
            "Stable name of this process as an owner of agents; a restart under the same name takes over "
            "at once. Unset: a name kept in the data directory."
        ),
    ] = None
    default_base_url: Annotated[
        str | None, _says("OpenAI-compatible endpoint for every provider name that is not known otherwise.")
    ] = None
    discover: Annotated[
        Literal["on", "off"],
        _says(
            "Whether to look for model servers on their usual loopback ports (Ollama, LM Studio, vLLM, "
            "llama.cpp, SGLang), at start and when models are listed."
        ),
    ] = "on"
    json_tools: Annotated[
        str | None,
        _says(
            "Handles or patterns like `ollama/gemma*`, separated by commas: models that cannot call tools "
            "and answer in JSON instead. Others are found out at their first call."
        ),
    ] = None
    responses_api: Annotated[
        str | None,
        _says(
            "Handles or patterns, separated by commas: models that are called through `/responses`; with `!` "
            "before it, never. Unset: OpenAI's reasoning models are, others are not."
        ),
    ] = None
    hot_bytes: Annotated[
        Bytes, _says("Memory for agents that are alive; beyond it the least recently used are passivated.")
    ] = 1024**3
    passivate_after: Annotated[Seconds, _says("Idle seconds after which an agent leaves memory.")] = 600.0
    max_pending_per_agent: Annotated[
        Bound, _says("Commands that may wait for one agent; beyond it 429 with Retry-After.")
    ] = 256
    max_pending: Annotated[
        Bound, _says("Commands that may wait in this process; beyond it 429 with Retry-After.")
    ] = 10_000
    max_runs: Annotated[Bound, _says("Runs under way at once; further ones wait in their mailboxes.")] = 512
    max_activations: Annotated[Bound, _says("Agents being loaded at once.")] = 32
    log_bytes: Annotated[
        Bytes, _says("Memory for the event logs that streams resume from; finished runs leave first.")
    ] = 64 * 1024 * 1024
    idle_timeout: Annotated[Seconds, _says("Seconds a model may be silent in the middle of an answer.")] = (
        120.0
    )
    first_token_timeout: Annotated[Seconds, _says("Seconds a model may take to begin its answer.")] = 600.0
    when_pending: Annotated[
        Literal["reject", "queue"],
        _says("What a message meets while calls wait for an approval: 409, or the mailbox until the answer."),
    ] = "reject"
    approval_seconds: Annotated[
        Days, _says("Seconds that calls wait for an approval or a client's result, before the default.")
    ] = 86_400.0
    approval_default: Annotated[
        Literal["deny", "approve"], _says("The answer to calls that nobody answered in time.")
    ] = "deny"
    exa_api_key: Annotated[
        str | None, _says("Key of the search engine Exa. Unset: agents cannot search the web.")
    ] = None
    exa_base_url: Annotated[str, _says("Where Exa's API is found.")] = "https://api.exa.ai"
    e2b_api_key: Annotated[
        str | None, _says("Key of E2B's sandboxes (extra `wakeful[e2b]`). Unset: agents cannot run code.")
    ] = None
    fetch_private: Annotated[
        Literal["off", "on"],
        _says(
            "Whether agents may fetch pages of this machine and of private networks, not only public ones."
        ),
    ] = "off"
    drain_seconds: Annotated[
        Seconds, _says("Seconds that running steps get to finish when the server stops.")
    ] = 10.0
    websocket_bytes: Annotated[
        Bytes,
        _says(
            "Memory for websocket connections and for what waits to be sent on them; when it is spent, new "
            "ones get 429 and the slowest are closed."
        ),
    ] = 512 * 1024 * 1024
    websockets_per_user: Annotated[
        Bound, _says("Websockets that one user may have open from other machines.")
    ] = 20
    handshakes_per_address: Annotated[
        Bound,
        _says("Websockets of one other machine that may be open before they have said who they are."),
    ] = 8
    keepalive_interval: Annotated[Seconds, _says("Seconds of silence after which a stream gets a ping.")] = (
        20.0
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _says("Least severe log lines that are written.")
    ] = "info"


SECRET = frozenset(  # never shown
    ("api_key", "database_url", "e2b_api_key", "embedding_api_key", "exa_api_key", "jwt_secret")
)
SECRET_BYTES = 32  # of `jwt_secret`, RFC 7518 section 3.2: a key of the size of the hash or larger

# Names that Letta's and other deployments already set. Ours wins where both are given.
ALIASES: Mapping[str, str] = {
    "DATABASE_URL": "database_url",
    "LETTA_SERVER_PASSWORD": "api_key",
    "LETTA_DEFAULT_LLM_HANDLE": "model",
    "LETTA_DEFAULT_EMBEDDING_HANDLE": "embedding",
    "EMBEDDING_BASE_URL": "embedding_base_url",
    "EMBEDDING_API_KEY": "embedding_api_key",
    "EXA_API_KEY": "exa_api_key",
    "E2B_API_KEY": "e2b_api_key",
}


class Field(Struct, frozen=True):
    """One setting as people meet it. `default` is the text of its default."""

    name: str
    env: str
    flag: str
    type: str
    default: str
    description: str
    aliases: tuple[str, ...]


def fields() -> tuple[Field, ...]:
    """Return the settings in the order of `Settings`; the settings page and the flags come from it."""
    return tuple(_field(field) for field in msgspec.structs.fields(Settings))


def _field(field: msgspec.structs.FieldInfo) -> Field:
    described = msgspec.inspect.type_info(field.type)
    assert isinstance(described, msgspec.inspect.Metadata)
    schema = cast("dict[str, str]", cast("Any", described).extra_json_schema)
    return Field(
        name=field.name,
        env=_env(field.name),
        flag=_flag(field.name),
        type=_type_name(described.type),
        default="" if field.default is None else str(field.default),
        description=schema["description"],
        aliases=tuple(alias for alias, name in ALIASES.items() if name == field.name),
    )


def _env(name: str) -> str:
    return PREFIX + name.upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _type_name(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.Metadata():
            return _type_name(kind.type)
        case msgspec.inspect.UnionType():
            return " or ".join(
                _type_name(t) for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)
            )
        case msgspec.inspect.LiteralType():
            return ", ".join(str(value) for value in kind.values)
        case msgspec.inspect.IntType():
            return "integer"
        case msgspec.inspect.FloatType():
            return "seconds"
        case _:
            return "text"


def load(env: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Return the settings: flags (by field name; `None` means not given) beat variables beat defaults.

    Empty variables count as unset. Does not read the process's environment itself.

    Raises:
        SettingsError: A variable or flag is unknown, a value is out of range, or two contradict.
    """
    _refuse_unknown(env, flags)
    chosen: dict[str, Any] = {}
    source: dict[str, str] = {}
    for alias, name in ALIASES.items():
        if env.get(alias):
            chosen[name], source[name] = env[alias], alias
    for name in Settings.__struct_fields__:
        if env.get(_env(name)):
            chosen[name], source[name] = env[_env(name)], _env(name)
        if flags.get(name) is not None:
            chosen[name], source[name] = flags[name], _flag(name)
    settings = _convert(chosen, source)
    _check(settings, source)
    return settings


def url(settings: Settings) -> str:
    """Return the address at which clients on this machine find the server."""
    return f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"


def _refuse_unknown(env: Mapping[str, str], flags: Mapping[str, Any]) -> None:
    names = Settings.__struct_fields__
    variables = [_env(name) for name in names]
    for variable in env:
        if variable.startswith(PREFIX) and variable not in variables:
            raise SettingsError(variable, f"there is no such setting{_nearest(variable, variables)}")
    for flag in flags:
        if flag not in names:
            options = [_flag(name) for name in names]
            raise SettingsError(_flag(flag), f"there is no such setting{_nearest(_flag(flag), options)}")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; see the settings page for those that exist"


def _convert(chosen: dict[str, Any], source: dict[str, str]) -> Settings:
    for name, value in chosen.items():
        kind = Settings.__annotations__[name]
        try:
            msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            expected = next(field.type for field in fields() if field.name == name)
            problem = f"{error}; expected {expected}, got {_shown(name, value)}"
            raise SettingsError(source[name], problem) from None
    return msgspec.convert(chosen, Settings, strict=False)


def _shown(name: str, value: object) -> str:
    return "a secret value" if name in SECRET else repr(value)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _check(settings: Settings, source: Mapping[str, str]) -> None:
    def refuse(name: str, problem: str) -> SettingsError:
        return SettingsError(source.get(name, _flag(name)), problem)

    if settings.api_key is None and not is_loopback(settings.host):
        raise refuse(
            "host",
            f"refusing to bind {settings.host} without an API key: everybody who reaches it could use it. "
            f"Set {_env('api_key')}, or listen on 127.0.0.1",
        )
    if settings.api_key is not None and not settings.api_key.isascii():
        raise refuse("api_key", "an API key must be ASCII, because it travels in a header")
    if settings.jwt_secret is not None and len(settings.jwt_secret.encode()) < SECRET_BYTES:
        raise refuse(
            "jwt_secret",
            f"HS256 needs at least {SECRET_BYTES} bytes; make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))'",
        )
    if settings.cors_origins is not None:
        try:
            cors.origins(settings.cors_origins)
        except ValueError as error:
            raise refuse("cors_origins", str(error)) from error
    if settings.model is not None and not all(settings.model.partition("/")):
        raise refuse("model", "a model handle is written provider/name")
    if settings.embedding not in (None, "off") and not all(settings.embedding.partition("/")):
        raise refuse("embedding", "an embedding model handle is written provider/name; `off` means none")
    if settings.embedding_base_url is not None:
        if not _is_url(settings.embedding_base_url, "http", "https"):
            raise refuse("embedding_base_url", "expected a URL like http://127.0.0.1:8080/v1")
        if settings.embedding is None:
            raise refuse(
                "embedding_base_url",
                f"name the model there that shall embed, for example {_env('embedding')}=embedding/bge-m3",
            )
    if settings.host_name is not None and _NAME.fullmatch(settings.host_name) is None:
        raise refuse("host_name", "use at most 100 letters, digits, '.', '_' or '-'")
    if settings.default_base_url is not None and not _is_url(settings.default_base_url, "http", "https"):
        raise refuse("default_base_url", "expected a URL like http://127.0.0.1:11434/v1")
    if not _is_url(settings.exa_base_url, "http", "https"):
        raise refuse("exa_base_url", "expected a URL like https://api.exa.ai")
    if settings.database_url is not None and not _is_url(
        settings.database_url, "postgres", "postgresql", "postgresql+asyncpg"
    ):
        raise refuse("database_url", "expected a URL like postgresql://user@host/name")
    if settings.max_pending < settings.max_pending_per_agent:
        raise refuse(
            "max_pending",
            f"contradicts {_env('max_pending_per_agent')}: one agent alone may have "
            f"{settings.max_pending_per_agent} commands waiting",
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_url(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in schemes and (bool(parts.netloc) or parts.scheme.startswith("postgres"))
