"""Pages of other origins: what browsers ask, what they are told, and who is never let in."""

from typing import Any

import httpx
import pytest

from gateway.config import Settings, SettingsError, load
from gateway.cors import Cors
from tests.gateway.rest.test_tickets import client, with_token
from tests.gateway.test_tokens import SECRET, signed

PAGE = "https://app.example"
OPEN = Settings(api_key="k.e.y", jwt_secret=SECRET, cors_origins=f"{PAGE}, http://localhost:3000")
NAMES = "authorization,content-type,user-agent,x-wakeful-when-busy"


async def ask(http: httpx.AsyncClient, path: str, **headers: str) -> httpx.Response:
    """Ask as a browser does before a request that is more than a form's."""
    asked = {"origin": PAGE, "access-control-request-method": "POST", **headers}
    return await http.options(path, headers={name.replace("_", "-"): value for name, value in asked.items()})


async def test_a_page_that_may_is_told_so_and_reads_the_answer() -> None:
    async with client(OPEN) as http:
        asked = await ask(http, "/v1/tickets", access_control_request_headers=NAMES)
        assert (asked.status_code, asked.content) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-methods"] == "POST"
        assert asked.headers["access-control-allow-headers"] == NAMES
        assert asked.headers["access-control-max-age"] == "600"
        assert "access-control-allow-credentials" not in asked.headers
        made = await http.post("/v1/tickets", headers={"origin": PAGE, **with_token(signed())})
        assert made.status_code == 200
        assert made.headers["access-control-allow-origin"] == PAGE
        assert "x-wakeful-run-id" in made.headers["access-control-expose-headers"]
        assert made.headers["vary"] == "origin"


async def test_an_error_can_be_read_as_well() -> None:
    async with client(OPEN) as http:
        refused = await http.post("/v1/tickets", headers={"origin": PAGE, **with_token("nonsense")})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == PAGE
        assert refused.headers.get_list("x-request-id")


async def test_a_page_that_may_not_is_refused_when_it_asks_and_reads_nothing() -> None:
    async with client(OPEN) as http:
        for origin in ("https://evil.example", "https://app.example.evil", "null", "http://app.example"):
            asked = await ask(http, "/v1/tickets", origin=origin)
            assert asked.status_code == 403
            assert "access-control-allow-origin" not in asked.headers
            answered = await http.get("/v1/open", headers={"origin": origin, **with_token(signed())})
            assert "access-control-allow-origin" not in answered.headers
            assert answered.headers["vary"] == "origin"


async def test_other_routes_and_methods_are_not_for_pages() -> None:
    async with client(OPEN) as http:
        for path, method in (("/v1/closed", "GET"), ("/v1/nowhere", "GET"), ("/v1/tickets", "DELETE")):
            asked = await ask(http, path, access_control_request_method=method)
            assert asked.status_code == 401
            assert "access-control-allow-origin" not in asked.headers
        closed = await http.get("/v1/closed", headers={"origin": PAGE, **with_token("k.e.y")})
        assert "access-control-allow-origin" not in closed.headers


async def test_without_the_setting_nothing_is_said() -> None:
    async with client() as http:
        assert (await ask(http, "/v1/tickets")).status_code == 401
        made = await http.post("/v1/tickets", headers={"origin": PAGE, **with_token(signed())})
        assert made.status_code == 200
        assert not [name for name in made.headers if name.startswith("access-control")]
        assert "vary" not in made.headers


async def test_without_a_key_the_setting_lets_no_foreign_page_in() -> None:
    async with client(Settings(cors_origins=f"{PAGE},http://localhost:3000")) as http:
        assert (await ask(http, "/v1/open", access_control_request_method="GET")).status_code == 403
        assert (await http.get("/v1/open", headers={"origin": PAGE})).status_code == 403
        near = "http://localhost:3000"
        asked = await ask(http, "/v1/open", origin=near, access_control_request_method="GET")
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, near)
        assert (await http.get("/v1/open", headers={"origin": near})).status_code == 200
        rebound = await ask(http, "/v1/open", origin=near, access_control_request_method="GET", host="evil")
        assert rebound.status_code == 421


def test_any_origin_is_any_but_none_at_all() -> None:
    cors = Cors("*")
    assert dict(cors.marks({b"origin": b"https://x.example"}))[b"access-control-allow-origin"]
    assert b"access-control-allow-origin" not in dict(cors.marks({b"origin": b"null"}))


def test_a_header_that_is_no_list_of_names_is_not_repeated() -> None:
    asked = {b"origin": PAGE.encode(), b"access-control-request-method": b"POST"}
    told = Cors(PAGE).preflight(asked | {b"access-control-request-headers": b"a\x00b"})
    assert "access-control-allow-headers" not in told.headers


@pytest.mark.parametrize("origins", ["app.example", "https://app.example/", "https://a b", "file://x"])
def test_what_is_no_origin_stops_the_start(origins: str) -> None:
    flags: dict[str, Any] = {"cors_origins": origins}
    with pytest.raises(SettingsError, match="no origin"):
        load({}, flags)
