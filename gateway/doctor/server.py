"""What the doctor sees of the server: its address, its key, whether it runs, and what memory it takes."""

import errno
import socket

from gateway import config, database
from gateway.chat.client import AwayError, ChatError, Client, RefusedError
from gateway.config import Settings
from gateway.doctor import machine as doctor_machine
from gateway.doctor.findings import Finding, error, mebibytes, ok, warning
from gateway.rest.health import Health, release
from storage import datadir
from storage.errors import EmbeddedError

SHORT_KEY_CHARS = 16


async def findings(settings: Settings) -> list[Finding]:
    """Return what is to be said about the address, the key and the running server."""
    found = [_key(settings)]
    async with Client(config.url(settings), settings.api_key) as client:
        try:
            health = await client.ask("GET", "/v1/health/", Health)
        except AwayError:
            return [*found, _port(settings)]
        except ChatError:
            return [*found, _taken(settings)]
        found.append(_release(health, settings))
        found.append(await _admission(client))
    return [*found, _footprint(settings)]


def _key(settings: Settings) -> Finding:
    reach = (
        "loopback only" if config.is_loopback(settings.host) else "every network that reaches this machine"
    )
    if settings.api_key is None:
        return ok("api key", f"none, and {settings.host} is reached from {reach}")
    if len(settings.api_key) < SHORT_KEY_CHARS:
        return warning(
            "api key",
            f"it has {len(settings.api_key)} characters and can be guessed; {settings.host} means {reach}",
            remedy="make a longer one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return ok("api key", f"set; {settings.host} means {reach}")


def _port(settings: Settings) -> Finding:
    """Try to listen where the server would."""
    where = f"{settings.host} port {settings.port}"
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return _taken(settings)
        remedy = "choose a port above 1023" if problem.errno == errno.EACCES else "choose another with --host"
        return error("port", f"cannot listen on {where}: {problem.strerror}", remedy=remedy)
    return ok("port", f"{where} is free: no server runs here")


def _taken(settings: Settings) -> Finding:
    return error(
        "port",
        f"something else answers on {settings.host} port {settings.port}",
        remedy="stop it, or choose another port with --port",
    )


def _release(health: Health, settings: Settings) -> Finding:
    text = f"wakeful {health.version} answers at {config.url(settings)}: {health.status}"
    if health.version != release():
        return warning(
            "server", f"{text}; this command is release {release()}", remedy="restart it after the upgrade"
        )
    return ok("server", text)


async def _admission(client: Client) -> Finding:
    """Try the key on a route that wants one."""
    try:
        await client.ask("GET", "/v1/agents/?limit=1", list[object])
    except RefusedError as problem:
        return error("admission", f"the server refuses: {problem}", remedy="see its log")
    except ChatError as problem:
        return error("admission", str(problem), remedy="give the server and this command the same key")
    return ok("admission", "the server takes our requests")


def _footprint(settings: Settings) -> Finding:
    """Say what memory the server takes, its embedder and its Postgres apart."""
    try:
        holder = datadir.holder(database.data_dir(settings))
    except EmbeddedError:
        holder = None
    measured = doctor_machine.resident(holder) if holder else None
    if measured is None:
        return ok("server memory", "its process is not known here, so it is not measured")
    own, children = measured
    apart = "".join(f", {name} {mebibytes(size)}" for name, size in sorted(children.items()))
    without = "" if "embedder" in children else "; no embedder runs"
    return ok("server memory", f"{mebibytes(own)} in process {holder}{apart}{without}")
