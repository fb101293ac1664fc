"""Tokens: who a key, a JWT or a one-time ticket stands for, and until when."""

import logging
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated, Any
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from jwt import InvalidAlgorithmError, InvalidSignatureError, InvalidTokenError
from jwt.api_jws import PyJWS
from msgspec import Meta, Struct

from actors import clock
from gateway.auth import KEYED, LOOPBACK, SCOPES, USER, Caller, Key, bearer
from gateway.config import Settings
from gateway.errors import TokenExpiredError, TooManyRequestsError, UnauthorizedError
from storage.records import DEFAULT_ORGANIZATION

log = logging.getLogger("wakeful.gateway")

ALGORITHM = "HS256"
AUDIENCE = "wakeful"
TICKET_SECONDS = 30
MAX_TICKETS = 10_000
MAX_TOKEN_CHARS = 32_768  # room for about 500 agents

_Name = Annotated[str, Meta(min_length=1, max_length=256, pattern="^[^\x00-\x20\x7f]+$")]
_Instant = Annotated[float, Meta(ge=0, lt=1e11)]  # seconds since the epoch, far from what a timer cannot hold


_jws: Any = PyJWS()  # its keys are partly untyped


class Claims(Struct, frozen=True):
    """What a JWT says (RFC 7519). `scope` and `agents` narrow it; without them it may do everything.

    `sub` is the id of a user, or any name of one. `aud`, where it is given, names `wakeful`: a token for
    somebody else is not for us.
    """

    sub: _Name
    exp: _Instant
    nbf: _Instant = 0.0
    scope: str | None = None
    agents: tuple[_Name, ...] | None = None
    org: _Name = DEFAULT_ORGANIZATION
    aud: str | tuple[str, ...] | None = None


class Identity(Struct, frozen=True):
    """Who calls, and until when (seconds since the epoch; `None`: for as long as the key is valid)."""

    caller: Caller
    expires_at: float | None = None

    def ttl(self) -> float | None:
        """Return the seconds until it ends, None where it does not.

        Raises:
            TokenExpiredError: It has ended.
        """
        if self.expires_at is None:
            return None
        left = self.expires_at - clock.now().timestamp()
        if left <= 0:
            raise TokenExpiredError
        return left


class Tokens:
    """Says who calls. Tickets live in this process and are forgotten with it."""

    def __init__(self, settings: Settings) -> None:
        self._key = None if settings.api_key is None else Key(settings.api_key)
        self._secret = None if settings.jwt_secret is None else settings.jwt_secret.encode()
        self._tickets: dict[str, tuple[float, Identity]] = {}  # in the order of their end

    def identify(self, token: str | None, *, loopback: bool) -> Identity:
        """Return whom a token stands for: the API key, or a JWT signed with the server's secret.

        `loopback` says that the peer is on this machine and is no page of another site: without an API
        key it needs no token. A token that is shown is checked wherever there is something to check it
        against.

        Raises:
            UnauthorizedError: It stands for nobody, or is missing. Why is logged, never told.
        """
        if token and self._key is not None and self._key.matches(token.encode()):
            return Identity(KEYED)
        if token and self._secret is not None:
            return self._verified(token, self._secret)
        if self._key is None and loopback:
            return Identity(LOOPBACK)
        raise _refused("no token" if not token else "not the API key, and no jwt_secret is set")

    def of_request(self, headers: Mapping[bytes, bytes], query: bytes) -> Identity | None:
        """Return whom a request's JWT or its query's `ticket` stands for.

        `None` where it has neither: then its API key decides, as everywhere.

        Raises:
            UnauthorizedError: It shows one that stands for nobody.
        """
        if (ticket := ticket_in(query)) is not None:
            return self.redeem(ticket)
        shown = bearer(headers)
        if not shown or self._secret is None or (self._key is not None and self._key.matches(shown)):
            return None
        return self._verified(shown.decode("latin-1"), self._secret)

    def ticket(self, identity: Identity) -> str:
        """Return a ticket that stands for `identity` once, within `TICKET_SECONDS`.

        Raises:
            TooManyRequestsError: Too many tickets wait to be used.
        """
        now = clock.monotonic()
        while self._tickets and next(iter(self._tickets.values()))[0] <= now:
            del self._tickets[next(iter(self._tickets))]
        if len(self._tickets) >= MAX_TICKETS:
            raise TooManyRequestsError("too many tickets wait to be used", retry_after=TICKET_SECONDS)
        made = token_urlsafe(32)
        self._tickets[made] = (now + TICKET_SECONDS, identity)
        return made

    def redeem(self, ticket: str) -> Identity:
        """Return whom a ticket stands for, and forget it.

        Raises:
            UnauthorizedError: It was used before, is too old, or never existed.
        """
        ends, identity = self._tickets.pop(ticket, (None, None))
        if ends is None or identity is None:
            raise _refused("unknown or used ticket")
        if ends <= clock.monotonic():
            raise _refused("expired ticket")
        if identity.expires_at is not None and identity.expires_at <= clock.now().timestamp():
            raise _refused("the token behind the ticket has expired")
        return identity

    def _verified(self, token: str, secret: bytes) -> Identity:
        claims = _claims(token, secret)
        now = clock.now().timestamp()
        if claims.exp <= now:
            raise _refused("expired", TokenExpiredError)
        if claims.nbf > now:
            raise _refused("not yet valid")
        audience = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        if audience is not None and AUDIENCE not in audience:
            raise _refused("for another audience")
        scopes = SCOPES if claims.scope is None else SCOPES & frozenset(claims.scope.split())
        caller = Caller(
            f"token:{claims.sub}",
            claims.org,
            user_of(claims),
            scopes=scopes,
            agents=None if claims.agents is None else frozenset(claims.agents),
        )
        return Identity(caller, claims.exp)


def user_of(claims: Claims) -> str:
    """Return the id of a token's user: `sub` where it is one, else the one that is always derived from it."""
    if USER.fullmatch(claims.sub) is not None:
        return claims.sub
    digest = sha256(f"{claims.org}\n{claims.sub}".encode()).digest()
    return f"user-{UUID(bytes=digest[:16], version=4)}"


def ticket_in(query: bytes) -> str | None:
    """Return the `ticket` of a query string, if it has one."""
    if b"ticket=" not in query:
        return None
    try:
        found = parse_qs(query.decode("ascii"), max_num_fields=100).get("ticket")
    except ValueError:
        return None
    return found[-1] if found else None


def _claims(token: str, secret: bytes) -> Claims:
    """Return the claims of a token with a good signature; the header's word on the algorithm is not taken."""
    if len(token) > MAX_TOKEN_CHARS:
        raise _refused("too long")
    try:
        payload = _jws.decode(token, secret, algorithms=[ALGORITHM])
        return msgspec.json.decode(payload, type=Claims)
    except InvalidAlgorithmError:
        raise _refused("its algorithm is not HS256") from None
    except InvalidSignatureError:
        raise _refused("bad signature") from None
    except InvalidTokenError:
        raise _refused("not a JWT") from None
    except msgspec.MsgspecError as error:
        raise _refused(f"claims: {error}") from None


def _refused(reason: str, kind: type[UnauthorizedError] = UnauthorizedError) -> UnauthorizedError:
    """Return the error of a token that stands for nobody: the log says why, the client learns nothing.

    But that it has expired: with a new one its holder goes on.
    """
    log.info("token refused", extra={"reason": reason})
    return kind()
