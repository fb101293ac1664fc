"""Web pages of other origins: which of them may call what takes tokens, as browsers ask for it.

The protocol is CORS (https://fetch.spec.whatwg.org/#http-cors-protocol). Callers show a token in a header of
their own, never a cookie, so credentials are not allowed and any header may be sent.
"""

import re
from collections.abc import Mapping

from starlette.responses import Response

from gateway.errors import ForbiddenError

ANY = "*"
MAX_AGE = b"600"  # seconds for which a browser need not ask again
EXPOSED = b"x-request-id, x-wakeful-run-id, x-vercel-ai-ui-message-stream, retry-after"

_ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]+", re.IGNORECASE)
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~ ,-]{0,1024}")  # names of headers, RFC 9110 section 5.6.2

Marks = list[tuple[bytes, bytes]]


def origins(text: str) -> frozenset[str]:
    """Return the origins that a setting names, separated by commas; `*` means any.

    Raises:
        ValueError: One is no origin.
    """
    found = frozenset(one.strip().lower() for one in text.split(",") if one.strip())
    for one in found:
        if one != ANY and _ORIGIN.fullmatch(one) is None:
            raise ValueError(f"{one!r} is no origin; one is written https://app.example, without a path")
    return found


class Cors:
    """What the answers say to pages of other origins. Without a setting they say nothing: nobody may."""

    def __init__(self, setting: str | None) -> None:
        self._origins = frozenset[str]() if setting is None else origins(setting)

    @property
    def enabled(self) -> bool:
        """Whether there is an origin that may."""
        return bool(self._origins)

    def marks(self, headers: Mapping[bytes, bytes]) -> Marks:
        """Return the headers of an answer, also of one that is an error."""
        if not self.enabled:
            return []
        marks: Marks = [(b"vary", b"origin")]
        origin = headers.get(b"origin")
        if origin is not None and self._allows(origin):
            marks += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED),
            ]
        return marks

    def preflight(self, headers: Mapping[bytes, bytes]) -> Response:
        """Return the answer to a browser that asks whether a page may send a request; `marks` go with it.

        Raises:
            ForbiddenError: It may not.
        """
        if not self._allows(headers.get(b"origin", b"")):
            raise ForbiddenError("pages of this origin may not call; the setting cors_origins names those")
        response = Response(status_code=204)
        method = headers[b"access-control-request-method"]
        response.raw_headers += [
            (b"access-control-allow-methods", method),
            (b"access-control-max-age", MAX_AGE),
        ]
        names = headers.get(b"access-control-request-headers", b"")
        if names and _NAMES.fullmatch(names) is not None:
            response.raw_headers.append((b"access-control-allow-headers", names))
        return response

    def _allows(self, origin: bytes) -> bool:
        text = origin.decode("latin-1").lower()
        return text in self._origins or (ANY in self._origins and _ORIGIN.fullmatch(text) is not None)
