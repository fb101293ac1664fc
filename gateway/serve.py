"""The server's process: what is opened in which order, before and around its event loop.

Signals: the first SIGTERM or SIGINT drains (new commands get 503, running turns end or are suspended within
`drain_seconds`), then the connections close. The second quits at once, which loses nothing either: whatever
was acknowledged is in the database, and the embedded Postgres stops by itself.
"""

import asyncio
import contextlib
import errno
import importlib
import resource
import socket
import threading
from collections.abc import Generator, Mapping

import uvloop

from actors.llm.providers import Provider, provider_for, providers_from_env
from gateway import database, garbage, logs
from gateway.config import Settings, SettingsError
from gateway.database import Database

BACKLOG = 2048
# libuv takes one connection of a listener in each turn of its loop, and a turn under load takes 10 ms: who
# comes with a hundred others would wait a second. So each listener is there so often: a turn takes so many.
TAKEN_AT_ONCE = 8
# A peer that acknowledges nothing for this long, or has no room for what it is sent, is gone: as long as a
# stream waits for a stalled reader. No less: a phone that changes cells or drives through a tunnel is away
# for seconds. The kernel sends again 0.2, 0.6, 1.4, 3, 6.2, 12.6 and 25.4 s after the first time (RFC 6298
# doubles what it waits), so a bound of three seconds would cut those that the next attempts find again. A
# websocket's peer that is gone for good is known by its missing pong, and aborted; this bound is for all
# other connections.
PEER_SECONDS = 30


def serve(settings: Settings, env: Mapping[str, str]) -> int:
    """Run the server until it is told to stop; return the process's exit code. For the main thread.

    Raises:
        SettingsError: A setting cannot be used on this machine, or a provider's variable is wrong.
        StorageError: The database cannot be used, or another server owns it; the message names the remedy.
    """
    logs.set_up(settings.log_level)
    _allow_many_connections()
    providers = _providers(settings, env)
    with (
        _listening(settings.host, settings.port) as sockets,
        garbage.starting(),
        _importing(with_sdk=bool(providers) or settings.default_base_url is not None),
        database.opened(settings) as opened,
        database.host_name(settings) as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_live(settings, opened, name, providers, env, sockets))


def _providers(settings: Settings, env: Mapping[str, str]) -> tuple[Provider, ...]:
    source = "model providers"
    try:
        providers = providers_from_env(env)
        if settings.default_base_url is not None:
            source = "--default-base-url"
            provider_for("default", settings.default_base_url)
        if settings.embedding_base_url is not None:
            source = "--embedding-base-url"
            provider_for("embedding", settings.embedding_base_url)
    except ValueError as error:
        raise SettingsError(source, str(error)) from error
    return providers


async def _live(
    settings: Settings,
    opened: Database,
    name: str,
    providers: tuple[Provider, ...],
    env: Mapping[str, str],
    sockets: list[socket.socket],
) -> int:
    from gateway.life import Life

    return await Life(settings, opened, name=name, providers=providers, env=env).run(sockets)


@contextlib.contextmanager
def _importing(*, with_sdk: bool) -> Generator[None]:
    """Import what the server is made of while its Postgres starts: each takes the better part of a second."""

    def load() -> None:
        with contextlib.suppress(ImportError):  # it is raised where the module is used
            importlib.import_module("gateway.life")
            if with_sdk:
                importlib.import_module("actors.llm.openai_sdk")

    threading.Thread(target=load, name="imports", daemon=True).start()
    yield


def _allow_many_connections() -> None:
    """Raise the soft limit on open files, which is meant for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[list[socket.socket]]:
    """Yield listening sockets on every address that `host` means.

    They listen at once: whoever connects before the server is up waits for it, and a port that is taken is
    found before anything else is started or taken over.

    Raises:
        SettingsError: The address is not this machine's, or the port is taken.
    """
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                sock = stack.enter_context(socket.socket(family, kind, protocol))
                _listen(sock, address)
                sockets.append(sock)
                sockets += [stack.enter_context(sock.dup()) for _ in range(TAKEN_AT_ONCE - 1)]
        except OSError as error:
            problem = f"cannot listen on {host} port {port}: {error.strerror}; choose another port or address"
            if error.errno == errno.EADDRINUSE:
                problem += ", or stop what listens there"
            raise SettingsError("--host, --port", problem) from error
        yield sockets


def _listen(sock: socket.socket, address: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # Otherwise closing the connection of a peer that vanished waits for its buffer to empty, for ever.
    # Accepted sockets inherit it. Linux only.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_SECONDS * 1000)
    sock.bind(address)
    sock.listen(BACKLOG)
    sock.setblocking(False)
