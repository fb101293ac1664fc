"""Connections to model providers: one aiohttp session per process, its proxies, deadlines and faults."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping

import aiohttp
import anyio
from msgspec import Struct
from yarl import URL

from actors.errors import ModelError
from actors.llm import errors
from actors.llm.providers import Provider

# Below the 20 s and more after which providers close an idle connection themselves.
KEEP_ALIVE = 15.0
LIST_BYTES = 8 * 1024 * 1024
ERROR_BYTES = 64 * 1024
# An answer is complete at [DONE]; this long we wait for the end of its body, to use the connection again.
BODY_END = 0.05


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long a call may wait, in seconds.

    `first_token` also bounds the time between two pieces of an answer, `idle` that between any two
    bytes, and `after_finish` what may follow the finish reason.
    """

    connect: float = 5.0
    first_token: float = 600.0
    idle: float = 120.0
    after_finish: float = 5.0


class Wire:
    """The connections of one process. It opens when it is first used; close it with `aclose`.

    Proxies are read once, from `env` (`HTTPS_PROXY`, `NO_PROXY` …); loopback addresses take none.
    `tls` replaces the system's trusted certificates.
    """

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        *,
        timeouts: Timeouts | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._proxies = _proxies(env or {})
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Return the session; call it inside the event loop that will use it."""
        if self._session is None:
            connect = self.timeouts.connect
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=KEEP_ALIVE, ssl=True if self._tls is None else self._tls
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect),
            )
        return self._session

    def proxy_for(self, url: URL) -> URL | None:
        """Return the proxy that the environment names for this address."""
        host = url.host or ""
        if host in ("localhost", "::1") or host.startswith("127."):
            return None
        if _is_listed(host, self._proxies.get("no", "")):
            return None
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        return URL(proxy) if proxy else None

    async def list_models(self, provider: Provider) -> object:
        """Return the decoded answer of `GET /models`.

        Raises:
            ModelError: There is no usable answer.
        """
        return await self.ask(provider, provider.call_url.rstrip("/") + "/models")

    async def ask(self, provider: Provider, address: str, payload: object = None) -> object:
        """Return the decoded answer of a provider to a small question: `GET`, or `POST` with a payload.

        Raises:
            ModelError: There is no usable answer.
        """
        headers = {"accept": "application/json", "accept-encoding": "gzip"}
        if provider.type == "anthropic":
            headers |= {"x-api-key": provider.api_key, "anthropic-version": "2023-06-01"}
        elif provider.api_key:
            headers["authorization"] = f"Bearer {provider.api_key}"
        try:
            url = URL(address)
            async with self.session.request(
                "GET" if payload is None else "POST",
                url,
                headers=headers,
                proxy=self.proxy_for(url),
                allow_redirects=False,
                json=payload,
            ) as response:
                body = await read_body(response, LIST_BYTES)
                if response.status != 200:
                    refusal = errors.read_refusal(errors.decode_body(body[:ERROR_BYTES]), response.status)
                    raise errors.classify(refusal, provider.name, secrets=provider.secrets)
                return errors.decode_body(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise broken(error, provider.name, self.timeouts) from error

    async def aclose(self) -> None:
        """Close every connection; calls that are under way fail."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Watch:
    """Closes a response that sends nothing for too long.

    One timer for the whole stream instead of a cancel scope per read: a token costs one time stamp.
    Only our own waiting counts, never a slow consumer.
    """

    def __init__(self, provider: str, timeouts: Timeouts) -> None:
        self.expired = False
        self._provider = provider
        self._timeouts = timeouts
        self._idle = timeouts.idle
        self._limit = timeouts.first_token
        self._loop = asyncio.get_running_loop()
        self._waiting: float | None = None
        self._progress = self._loop.time()
        self._begun = False
        self._give_up: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, give_up: Callable[[], None]) -> None:
        """Start to watch; the time since the watch was made counts towards the first token.

        `give_up` is called, once, when it took too long: it closes the response.
        """
        self._give_up = give_up
        self._arm(self._progress + self._timeouts.first_token)

    def wait(self) -> None:
        """Note that we wait for the provider."""
        self._waiting = self._loop.time()

    def got(self) -> None:
        """Note that nobody waits for the provider any more."""
        self._waiting = None

    def heard(self) -> None:
        """Note that bytes came; whoever waited for them goes on to wait."""
        if self._waiting is not None:
            self._waiting = self._loop.time()

    def progress(self) -> None:
        """Note that bytes came which held something of the answer."""
        self._progress = now = self._loop.time()
        if self._waiting is not None:
            self._waiting = now
        if not self._begun:
            self._begun = True
            self._arm(self._progress + self._idle)

    def finishing(self) -> None:
        """Note that the answer is complete but for its end mark."""
        if self._idle > self._timeouts.after_finish:
            self._idle = self._timeouts.after_finish
            self._arm(self._loop.time() + self._idle)

    def end(self) -> None:
        """Stop watching. What it would have called, and what that holds, is let go."""
        self._stop()
        self._give_up = None

    def error(self) -> ModelError:
        """Say what did not come in time."""
        what = "no further bytes" if self._begun else "no first token"
        return errors.timed_out(self._provider, what, self._limit)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, when: float) -> None:
        self._stop()
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if self._waiting is None:  # the consumer has the turn; the provider owes nothing meanwhile
            self._progress = now
            self._arm(now + self._idle)
            return
        due, self._limit = self._progress + self._timeouts.first_token, self._timeouts.first_token
        if self._begun and self._waiting + self._idle < due:
            due, self._limit = self._waiting + self._idle, self._idle
        if now < due:
            self._arm(due)
        elif self._give_up is not None:
            self.expired = True
            self._give_up()


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Return the body, cut at a limit."""
    parts: list[bytes] = []
    size = 0
    while size < limit_bytes and (part := await response.content.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)[:limit_bytes]


async def read_to_end(response: aiohttp.ClientResponse) -> None:
    """Let the connection go back to the pool, which it does at the body's end, if that comes at once."""
    if not response.content.at_eof():
        with anyio.move_on_after(BODY_END), contextlib.suppress(aiohttp.ClientError):
            while await response.content.readany():
                pass


def broken(error: Exception, provider: str, timeouts: Timeouts) -> ModelError:
    """Say what a failure of the connection means. Only what may cure itself is retryable."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return errors.timed_out(provider, "no connection", timeouts.connect)
        case TimeoutError():
            return errors.timed_out(provider, "no first token", timeouts.first_token)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            what, retryable = "cannot be trusted: its TLS certificate or handshake is not valid", False
        case aiohttp.ClientConnectorDNSError():
            what, retryable = "has a host name that cannot be resolved", True
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            what, retryable = "cannot be reached through the proxy", True
        case aiohttp.ClientConnectorError():
            what, retryable = "cannot be reached", True
        case aiohttp.ClientResponseError():
            what, retryable = "answered with something that is not HTTP", True
        case aiohttp.InvalidURL() | ValueError():
            what, retryable = "has a base URL that cannot be used", False
        case _:
            what, retryable = "closed the connection before it answered", True
    return ModelError(f"model provider {provider!r} {what}", kind="llm_error", retryable=retryable)


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    """Return scheme → proxy, and `no` → the hosts that take none. Lower case counts first, as in curl."""
    found: dict[str, str] = {}
    for name in ("http", "https", "all", "no"):
        if value := (env.get(f"{name}_proxy") or env.get(f"{name.upper()}_PROXY") or "").strip():
            found[name] = value if name == "no" or "://" in value else f"http://{value}"
    return found


def _is_listed(host: str, no_proxy: str) -> bool:
    for entry in no_proxy.split(","):
        domain = entry.strip().rpartition(":")[0] or entry.strip()
        domain = domain.removeprefix("*").removeprefix(".").lower()
        if entry.strip() == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return True
    return False
