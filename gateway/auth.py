"""Who calls: API keys where one is set, and protection from web pages where none is."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest

from msgspec import Struct
from msgspec.structs import replace

from gateway.decode import UUID4
from gateway.errors import (
    BadArgumentError,
    ForbiddenError,
    HeadersTooLargeError,
    MisdirectedError,
    UnauthorizedError,
    UnsupportedMediaError,
)
from storage.errors import NotFoundError
from storage.records import DEFAULT_ORGANIZATION, DEFAULT_USER

RawHeaders = Sequence[tuple[bytes, bytes]]

MAX_HEADER_BYTES = 64 * 1024

USER = re.compile(f"user-{UUID4}")
_LOOPBACK = re.compile(
    rb"(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])\.?(?::\d{1,5})?", re.IGNORECASE
)
_ORIGIN = re.compile(rb"https?://(.+)", re.IGNORECASE)
_JSON = re.compile(rb'\s*application/json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?', re.IGNORECASE)
# Headers that no web page can add to a form, nor to a request of another origin without being asked about.
_UNFORGED = frozenset((b"x-requested-with", b"x-stainless-package-version"))
# Headers that only browsers send.
_BROWSERS = frozenset((b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode"))
_SINGLE = frozenset((b"authorization", b"x-bare-password", b"host", b"origin", b"user_id", b"content-type"))


# What a caller may do: see agents, see what they think and remember, talk with them, change them.
READ, THOUGHTS, SEND, WRITE = "agent:read", "agent:read:thoughts", "agent:send", "agent:write"
SCOPES = frozenset((READ, THOUGHTS, SEND, WRITE))


class Caller(Struct, frozen=True):
    """Who asked. `name` is stored with every command; rows are scoped by `organization_id`.

    `scopes` is what the caller may do; `agents` are the only ones it may do it with, `None` means all of
    its organisation.
    """

    name: str
    organization_id: str = DEFAULT_ORGANIZATION
    user_id: str = DEFAULT_USER
    scopes: frozenset[str] = SCOPES
    agents: frozenset[str] | None = None

    def require(self, scope: str) -> None:
        """Check that the caller has a scope.

        Raises:
            ForbiddenError: It has not.
        """
        if scope not in self.scopes:
            raise ForbiddenError(f"this token lacks the scope {scope}")

    def require_agent(self, agent_id: str) -> None:
        """Check that the caller may address an agent, whether or not there is one.

        Raises:
            NotFoundError: It may not: to this caller the agent does not exist.
        """
        if self.agents is not None and agent_id not in self.agents:
            raise NotFoundError("agent", agent_id)


LOOPBACK = Caller("loopback")
KEYED = Caller("key")


class Key:
    """The server's API key, as its digest."""

    def __init__(self, api_key: str) -> None:
        self._digest = sha256(api_key.encode()).digest()

    def matches(self, given: bytes) -> bool:
        """Compare digests in constant time, so neither the key's length nor a prefix leaks."""
        return compare_digest(sha256(given).digest(), self._digest)


class Gate:
    """Decides about each request before anything else is read of it."""

    def __init__(self, api_key: str | None) -> None:
        self._key = None if api_key is None else Key(api_key)

    def admit(
        self,
        raw: RawHeaders,
        headers: dict[bytes, bytes],
        *,
        public: bool,
        forms: bool = False,
        known: Caller | None = None,
    ) -> Caller:
        """Return who calls. `headers` is `raw` as a dict; `public` routes need no key, `forms` take forms.

        `known` is whom a token or a ticket named already: no key is asked for then, and nobody else can
        be acted for.

        Raises:
            UnauthorizedError, ForbiddenError, MisdirectedError, HeadersTooLargeError,
            UnsupportedMediaError, BadArgumentError: The request goes no further.
        """
        if len(headers) != len(raw):
            self._refuse_repeats(raw)
        if sum(len(name) + len(value) for name, value in raw) > MAX_HEADER_BYTES:
            raise HeadersTooLargeError(f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        if self._key is None:
            _refuse_web_pages(headers, forms=forms)
        if known is not None:
            return known
        if self._key is None:
            caller = LOOPBACK
        elif public or self._knows(headers):
            caller = KEYED
        else:
            raise UnauthorizedError
        user = headers.get(b"user_id")
        return caller if user is None else _acting_for(caller, user)

    def _refuse_repeats(self, raw: RawHeaders) -> None:
        """Refuse a second value of a header that decides: proxies and servers differ in which they take."""
        seen: set[bytes] = set()
        for name, _ in raw:
            if name in seen and name in _SINGLE:
                if self._key is not None and name in (b"authorization", b"x-bare-password"):
                    raise UnauthorizedError
                raise BadArgumentError(f"the header {name.decode('latin-1')} came more than once")
            seen.add(name)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        key = bearer(headers)
        bare = headers.get(b"x-bare-password")
        if key is None and bare is not None and bare.startswith(b"password "):
            key = bare.removeprefix(b"password ")
        return key is not None and self._key is not None and self._key.matches(key)


def bearer(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return what the header `Authorization: Bearer` holds, if there is one."""
    given = headers.get(b"authorization")
    return given[7:].strip() if given is not None and given[:7].lower() == b"bearer " else None


def _refuse_web_pages(headers: dict[bytes, bytes], *, forms: bool) -> None:
    """Without a key the loopback interface is the only wall; browsers reach through it.

    A page of another site shows itself by `Origin`; one that rebinds its name to 127.0.0.1 by `Host`;
    a form or `fetch` without preflight by a body that is not JSON.
    """
    origin = headers.get(b"origin")
    if origin is not None:
        match = _ORIGIN.fullmatch(origin)
        if match is None or _LOOPBACK.fullmatch(match[1]) is None:
            raise ForbiddenError("this origin may not call a server that has no API key")
    if _LOOPBACK.fullmatch(headers.get(b"host", b"")) is None:
        raise MisdirectedError("the Host header must name this machine; set an API key to serve others")
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    kind = headers.get(b"content-type")
    if forms and kind is not None and kind.lower().startswith(b"multipart/form-data"):
        # What a web page can send as well, but neither with a header of its own choice nor in disguise.
        if not _UNFORGED & headers.keys() and _from_browser(headers):
            raise UnsupportedMediaError(
                "a browser's form needs the header X-Requested-With on a server without a key"
            )
        return
    if has_body and kind != b"application/json" and (kind is None or _JSON.fullmatch(kind) is None):
        raise UnsupportedMediaError("the body must be application/json in UTF-8")


def _from_browser(headers: dict[bytes, bytes]) -> bool:
    """Return whether a browser may have sent this; curl and programs are told from it by what they lack.

    Every browser names itself Mozilla, and where a page's script may change that at all, the server is asked
    first (`User-Agent` is no CORS-safelisted header: Fetch, 2.2.2).
    """
    agent = headers.get(b"user-agent", b"").lstrip()[:7].lower()
    return agent == b"mozilla" or not _BROWSERS.isdisjoint(headers)


def _acting_for(caller: Caller, user: bytes) -> Caller:
    text = user.decode("latin-1")
    if USER.fullmatch(text) is None:
        raise BadArgumentError("the header user_id must be user-<uuid4>", param="/user_id")
    return replace(caller, user_id=text)
