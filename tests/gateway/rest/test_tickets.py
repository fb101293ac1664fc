"""Tickets and tokens over HTTP: which routes take them, and how often."""

from typing import cast

import httpx
import pytest
from starlette.responses import Response

from actors.host import Host
from gateway import app as module
from gateway.app import App, Context, Route
from gateway.config import Settings
from gateway.rest import tickets
from tests.gateway.test_tokens import KEYED_SETTINGS, SECRET, identify, now, signed

ANN = identify(signed()).caller.user_id


async def who(ctx: Context) -> Response:
    return module.json({"name": ctx.caller.name, "user": ctx.caller.user_id, "until": ctx.expires_at})


ROUTES = [
    Route(method="GET", path="/v1/open", endpoint=who, operation_id="open", summary="", tokens=True),
    Route(method="GET", path="/v1/closed", endpoint=who, operation_id="closed", summary=""),
    *tickets.ROUTES,
]


def client(settings: Settings = KEYED_SETTINGS) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(App(cast("Host", None), settings, ROUTES))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def with_token(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_only_routes_that_say_so_take_tokens() -> None:
    token = signed()
    async with client() as http:
        opened = await http.get("/v1/open", headers=with_token(token))
        assert opened.json() == {
            "name": "token:ann",
            "user": ANN,
            "until": pytest.approx(now() + 60, abs=30),
        }
        closed = await http.get("/v1/closed", headers=with_token(token))
        assert closed.status_code == 401
        assert (await http.get("/v1/open")).status_code == 401
        assert (await http.get("/v1/open", headers=with_token("x"))).status_code == 401
        for path in ("/v1/open", "/v1/closed"):
            assert (await http.get(path, headers=with_token("k.e.y"))).json()["name"] == "key"


async def test_a_token_acts_for_nobody_else() -> None:
    other = {"user_id": "user-00000000-0000-4000-8000-00000000000a"}
    async with client() as http:
        mine = await http.get("/v1/open", headers={**with_token(signed()), **other})
        theirs = await http.get("/v1/open", headers={**with_token("k.e.y"), **other})
    assert (mine.json()["user"], theirs.json()["user"]) == (ANN, other["user_id"])


async def test_a_ticket_opens_once_and_makes_no_other() -> None:
    async with client() as http:
        made = (await http.post("/v1/tickets", headers=with_token(signed()))).json()
        assert made["expires_in"] == 30
        query = {"ticket": made["ticket"]}
        first = await http.get("/v1/open", params=query)
        assert first.json()["name"] == "token:ann"
        assert first.json()["until"] is not None
        again = await http.get("/v1/open", params=query)
        assert again.status_code == 401
        assert again.json()["detail"] == "Unauthorized"
        assert (await http.post("/v1/tickets")).status_code == 401
        made = (await http.post("/v1/tickets", headers=with_token("k.e.y"))).json()
        assert (await http.post("/v1/tickets", params={"ticket": made["ticket"]})).status_code == 401


async def test_a_page_of_another_site_is_refused_whatever_it_shows() -> None:
    foreign = {"origin": "https://evil.example"}
    async with client(Settings(jwt_secret=SECRET)) as http:
        assert (await http.get("/v1/open", headers={**with_token(signed()), **foreign})).status_code == 403
        assert (await http.get("/v1/open")).json()["name"] == "loopback"
        assert (await http.get("/v1/open", headers=with_token("x"))).status_code == 401
