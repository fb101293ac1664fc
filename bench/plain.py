"""A bare HTTP client on one kept connection, for cases that send single requests and time them themselves."""

import http.client
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import msgspec

SECONDS = 120.0  # of silence until a request is given up
T = TypeVar("T")


class Plain:
    """A connection to a port of this machine. Every method raises `RuntimeError` where the answer is not 200.

    A connection that broke raises `OSError` or `http.client.HTTPException`; the next request opens another.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str, **query: object) -> bytes:
        """Return the body of the answer to a GET."""
        return self._answer("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, value: object) -> bytes:
        """Return the body of the answer to a value as JSON."""
        return self._answer("POST", path, msgspec.json.encode(value))

    def read(self, path: str, kind: type[T], **query: object) -> T:
        """Return the answer to a GET as a value of a type."""
        return msgspec.json.decode(self.get(path, **query), type=kind)

    def lines(self, path: str, value: object) -> list[bytes]:
        """Return the lines of a streamed answer that hold something, read one by one as they come."""
        response = self._ask("POST", path, msgspec.json.encode(value))
        return [line for line in iter(response.readline, b"") if line != b"\n"]

    def _answer(self, method: str, path: str, body: bytes | None) -> bytes:
        return self._ask(method, path, body).read()

    def _ask(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if response.status != 200:
            raise RuntimeError(f"{method} {path} was answered {response.status}: {response.read()[:300]!r}")
        return response


def say(text: str, **more: Any) -> dict[str, Any]:
    """The body of a message to an agent."""
    return {"messages": [{"role": "user", "content": text}], **more}
