"""Paths find their routes."""

from typing import Any

import pytest
from msgspec import Struct

from gateway.errors import InvalidRequestError, UnknownRouteError, WrongMethodError
from gateway.rest.routes import ROUTES
from gateway.router import MAX_PATH_BYTES, Router


class Fake(Struct, frozen=True):
    method: str
    path: str


FAKES = [
    Fake("GET", "/v1/things/"),
    Fake("POST", "/v1/things/"),
    Fake("GET", "/v1/things/count"),
    Fake("GET", "/v1/things/{thing_id}"),
    Fake("GET", "/v1/things/{thing_id}/parts/{label}"),
    Fake("PATCH", "/v1/things/{thing_id}/parts/attach/{part_id}"),
    Fake("GET", "/docs"),
]


def find(method: str, path: bytes) -> tuple[str, dict[str, str]]:
    route, params = Router(FAKES).find(method, path)
    return route.path, params


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        (b"/v1/things/", "/v1/things/", {}),
        (b"/v1/things", "/v1/things/", {}),
        (b"/latest/things", "/v1/things/", {}),
        (b"/v1/things/count", "/v1/things/count", {}),
        (b"/v1/things/x", "/v1/things/{thing_id}", {"thing_id": "x"}),
        (b"/v1/things/x/", "/v1/things/{thing_id}", {"thing_id": "x"}),
        (
            b"/v1/things/x/parts/a%2Fb",
            "/v1/things/{thing_id}/parts/{label}",
            {"thing_id": "x", "label": "a/b"},
        ),
        (
            b"/v1/things/x/parts/attach",
            "/v1/things/{thing_id}/parts/{label}",
            {"thing_id": "x", "label": "attach"},
        ),
        (b"/v1/things/%C3%A9", "/v1/things/{thing_id}", {"thing_id": "é"}),
        (b"/docs", "/docs", {}),
    ],
)
def test_a_path_finds_its_route_and_parameters(path: bytes, route: str, params: dict[str, str]) -> None:
    assert find("GET", path) == (route, params)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"",
        b"//",
        b"/v1",
        b"/v1/thing",
        b"/v1//things",
        b"//v1/things",
        b"/v1/things/x/y",
        b"/V1/things",
    ],
)
def test_other_paths_find_none(path: bytes) -> None:
    with pytest.raises(UnknownRouteError):
        find("GET", path)


def test_a_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(WrongMethodError) as error:
        find("DELETE", b"/v1/things")
    assert error.value.allowed == ("GET", "POST")


def test_long_paths_and_bad_utf8_are_refused() -> None:
    with pytest.raises(InvalidRequestError):
        find("GET", b"/v1/things/" + b"x" * MAX_PATH_BYTES)
    with pytest.raises(InvalidRequestError):
        find("GET", b"/v1/things/%ff")


def test_two_routes_for_one_path_are_a_mistake_that_shows_at_start() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Router([*FAKES, Fake("GET", "/v1/things")])


def test_every_route_of_the_table_finds_itself() -> None:
    router = Router[Any](ROUTES)
    for route in ROUTES:
        found, _ = router.find(route.method, route.path.encode())
        assert found is route
