"""What only Letta's server has is refused by name, and nothing else is."""

import re

import pytest

from gateway import absent
from gateway.errors import NotSupportedError, UnknownRouteError, WrongMethodError
from gateway.requests import agents
from gateway.rest.routes import ROUTES
from gateway.router import Router


def test_what_is_absent_is_not_served() -> None:
    served = Router(ROUTES)
    for one in absent.ABSENT:
        with pytest.raises((UnknownRouteError, WrongMethodError)):
            served.find(one.method, re.sub(r"{\w+}", "x", one.path).encode())


def test_each_refusal_names_the_call_and_says_what_to_do() -> None:
    for one in absent.ABSENT:
        path = re.sub(r"{\w+}", "x", one.path)
        for written in (path, path + "/", path.replace("/v1/", "/latest/")):
            with pytest.raises(NotSupportedError) as refused:
                absent.check(one.method, written.encode())
            assert str(refused.value) == f"{one.call} is not served here: {one.instead}"


@pytest.mark.parametrize(("method", "path"), [("GET", b"/v1/nothing"), ("DELETE", b"/v1/folders")])
def test_other_paths_and_methods_pass(method: str, path: bytes) -> None:
    absent.check(method, path)


def test_calls_are_those_of_the_sdk_or_the_route_itself() -> None:
    for one in absent.ABSENT:
        assert one.call.startswith("client.") or one.call == f"{one.method} {one.path}"


def test_each_field_that_is_not_heeded_is_named_with_what_to_do() -> None:
    for name, instead in absent.FIELDS.items():
        refused = absent.field(name)
        assert (str(refused), refused.param) == (f"{name} is not served here: {instead}", f"/{name}")
        assert "supported" not in instead


def test_every_field_that_agents_refuse_says_what_to_do() -> None:
    assert set(agents.LATER) <= set(absent.FIELDS)
