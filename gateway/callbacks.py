"""Tells a URL that a run is over: one POST, five seconds, no redirects, no way into private networks.

Callbacks to loopback and private addresses are allowed only while the server itself listens on a loopback
address, where whoever can call it sits on the same machine anyway.
"""

import logging
import re
from ipaddress import ip_address
from typing import Any

import aiohttp
import msgspec

from actors import clock
from actors.host import Host
from actors.mailbox import Waiting
from actors.public_addresses import PublicResolver, is_numeric, is_public
from gateway.config import Settings
from gateway.errors import InvalidRequestError
from gateway.images import MAX_URL_CHARS, is_web_url
from storage.records import RunStatus

log = logging.getLogger("wakeful.callbacks")

CALLBACK_SECONDS = 5.0

# Narrow on purpose: no two parsers may read another host out of the same text.
_URL = re.compile(
    r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?(?:[/?#][\x21-\x5b\x5d-\x7e]*)?", re.IGNORECASE
)


def is_loopback(host: str) -> bool:
    """Say whether a server that listens on `host` can be reached from its own machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check(url: str, *, private: bool) -> None:
    """Refuse a callback URL that will not be called.

    Raises:
        InvalidRequestError: It is not http or https, or names a private address that may not be called.
    """
    match = _URL.fullmatch(url)
    if match is None or len(url) > MAX_URL_CHARS or not is_web_url(url):
        raise InvalidRequestError("callback_url must be an http or https URL", param="/callback_url")
    host = match[1].strip("[]")
    if not private and is_numeric(host) and not is_public(host):
        raise InvalidRequestError("callback_url must not name a private address", param="/callback_url")


class Callbacks:
    """Listens to a host for runs that are over and calls their URLs."""

    def __init__(self, host: Host, *, private: bool) -> None:
        self._host = host
        self._private = private

    def __call__(self, waiting: Waiting, status: RunStatus) -> None:
        """Call the run's URL, if it has one, as a task of the host."""
        url = waiting.command.callback_url
        if url is not None:
            self._host.spawn(self._call, url, _body(waiting, status), waiting.run_id)

    async def _call(self, url: str, body: bytes, run_id: str) -> None:
        """Post once. A target that fails or hangs is logged and not called again."""
        resolver = None if self._private else PublicResolver()
        timeout = aiohttp.ClientTimeout(total=CALLBACK_SECONDS)
        try:
            check(url, private=self._private)
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False),
                    timeout=timeout,
                    trust_env=False,
                ) as session,
                session.post(
                    url, data=body, headers={"content-type": "application/json"}, allow_redirects=False
                ) as response,
            ):
                log.info("callback sent", extra={"run_id": run_id, "status": response.status})
        except (aiohttp.ClientError, TimeoutError, OSError, InvalidRequestError) as error:
            log.info("callback failed", extra={"run_id": run_id, "reason": type(error).__name__})


def _body(waiting: Waiting, status: RunStatus) -> bytes:
    metadata: dict[str, Any] = {}
    if "run_type" in waiting.command.request_config:
        metadata["run_type"] = waiting.command.request_config["run_type"]
    return msgspec.json.encode(
        {
            "run_id": waiting.run_id,
            "status": status,
            "completed_at": clock.now(),
            "metadata": metadata,
        }
    )


def install(host: Host, settings: Settings) -> None:
    """Make the host call back. Called at the server's start, so that runs of its last life are covered too;
    repeating it changes nothing."""
    if not any(isinstance(listener, Callbacks) for listener in host.on_finished):
        host.on_finished.append(Callbacks(host, private=is_loopback(settings.host)))
