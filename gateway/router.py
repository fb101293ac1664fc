"""Finds the route of a path: a tree of path segments, literal ones before parameters."""

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidRequestError, UnknownRouteError, WrongMethodError

MAX_PATH_BYTES = 2048


class Routed(Protocol):
    """What the tree needs to know of a route."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=Routed)


class _Node(Generic[R]):
    __slots__ = ("literal", "parameter", "routes")

    def __init__(self) -> None:
        self.literal: dict[str, _Node[R]] = {}
        self.parameter: _Node[R] | None = None
        self.routes: dict[str, tuple[R, tuple[tuple[str, int], ...]]] = {}


class Router(Generic[R]):
    """The routes as a tree. `/v1/…` answers under `/latest/…` too, and a final slash is optional."""

    def __init__(self, routes: Iterable[R]) -> None:
        self._root: _Node[R] = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: R) -> None:
        node, names = self._root, list[tuple[str, int]]()
        for place, segment in enumerate(route.path.strip("/").split("/")):
            if segment.startswith("{"):
                names.append((segment.strip("{}"), place))
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literal.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {route.path}")
        node.routes[route.method] = (route, tuple(names))

    def find(self, method: str, raw_path: bytes) -> tuple[R, dict[str, str]]:
        """Return the route and its raw path parameters; a `%2F` stays inside its segment.

        Raises:
            UnknownRouteError: No route has this path.
            WrongMethodError: One has, with other methods.
            InvalidRequestError: The path is not UTF-8, or too long.
        """
        segments = _segments(raw_path)
        node = _match(self._root, segments, 0)
        if node is None:
            raise UnknownRouteError
        found = node.routes.get(method)
        if found is None:
            raise WrongMethodError(method, tuple(sorted(node.routes)))
        route, names = found
        return route, {name: segments[place] for name, place in names}


def _segments(raw_path: bytes) -> list[str]:
    if len(raw_path) > MAX_PATH_BYTES:
        raise InvalidRequestError(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if raw_path[-1:] == b"/":
        raw_path = raw_path[:-1]
    parts = raw_path[1:].split(b"/")
    if b"%" in raw_path:
        parts = [unquote_to_bytes(part) for part in parts]
    try:
        segments = [part.decode() for part in parts]
    except UnicodeDecodeError:
        raise InvalidRequestError("the path is not valid UTF-8") from None
    if segments[0] == "latest":
        segments[0] = "v1"
    return segments


def _match(node: _Node[R], segments: list[str], at: int) -> _Node[R] | None:
    if at == len(segments):
        return node if node.routes else None
    child = node.literal.get(segments[at])
    if child is not None and (found := _match(child, segments, at + 1)) is not None:
        return found
    if node.parameter is None or not segments[at]:
        return None
    return _match(node.parameter, segments, at + 1)
