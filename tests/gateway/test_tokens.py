"""Tokens: whom they stand for, for how long, and which stand for nobody."""

import base64
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, cast

import jwt
import pytest

from actors import clock
from gateway import docs
from gateway.auth import KEYED, LOOPBACK, READ, SCOPES, SEND, USER, Caller
from gateway.config import Settings
from gateway.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from gateway.tokens import MAX_TICKETS, Identity, Tokens, ticket_in
from storage.errors import NotFoundError
from storage.records import DEFAULT_ORGANIZATION
from tests.gateway.clocks import ManualClock, manual_clock

SECRET = "a secret of more than thirty-two bytes, long enough for every HS algorithm"
KEYED_SETTINGS = Settings(api_key="k.e.y", jwt_secret=SECRET)
AGENT = "agent-00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def time() -> Iterator[ManualClock]:
    with manual_clock() as manual:
        yield manual


def now() -> float:
    return clock.now().timestamp()


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    given = {"sub": "ann", "exp": now() + 60, **claims}
    return cast("Any", jwt).encode({k: v for k, v in given.items() if v is not None}, secret, algorithm)


def identify(token: str | None, *, settings: Settings = KEYED_SETTINGS, loopback: bool = False) -> Identity:
    return Tokens(settings).identify(token, loopback=loopback)


def b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# --- keys and JWTs --------------------------------------------------------------------------


def test_the_key_may_do_everything_for_ever() -> None:
    assert identify("k.e.y") == Identity(KEYED, None)
    assert KEYED.scopes == SCOPES
    assert KEYED.agents is None


@pytest.mark.parametrize("token", [None, "", "anything"])
def test_this_machine_needs_no_token_where_nothing_could_check_one(token: str | None) -> None:
    assert identify(token, settings=Settings(), loopback=True).caller is LOOPBACK


@pytest.mark.parametrize("token", [None, "", "k", "k.e.y2"])
@pytest.mark.parametrize("settings", [Settings(), KEYED_SETTINGS, Settings(api_key="k.e.y")])
def test_others_need_one(token: str | None, settings: Settings) -> None:
    with pytest.raises(UnauthorizedError):
        identify(token, settings=settings)


def test_a_token_names_its_caller_until_it_ends() -> None:
    end = now() + 60
    found = identify(signed(exp=end))
    assert found.caller == Caller("token:ann", DEFAULT_ORGANIZATION, found.caller.user_id)
    assert found.expires_at == end


def test_a_token_s_user_has_an_id_whatever_its_name() -> None:
    user = "user-00000000-0000-4000-8000-00000000000a"
    assert identify(signed(sub=user)).caller.user_id == user
    ann, again, other, elsewhere = (
        identify(signed(**claims)).caller.user_id for claims in ({}, {}, {"sub": "bob"}, {"org": "org-2"})
    )
    assert ann == again
    assert len({ann, other, elsewhere}) == 3
    assert USER.fullmatch(ann) is not None


def test_a_token_may_be_narrow() -> None:
    token = signed(scope=f"{READ} something:else {SEND}", agents=[AGENT], org="org-7", aud=["wakeful", "x"])
    caller = identify(token).caller
    assert caller.scopes == {READ, SEND}
    assert caller.agents == {AGENT}
    assert caller.organization_id == "org-7"
    caller.require(SEND)
    caller.require_agent(AGENT)
    with pytest.raises(ForbiddenError, match="agent:write"):
        caller.require("agent:write")
    with pytest.raises(NotFoundError):
        caller.require_agent(AGENT[:-1] + "b")


def test_an_empty_scope_allows_nothing() -> None:
    assert identify(signed(scope="", agents=[])).caller.scopes == frozenset()


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "missing required field `exp`"),
        ({"exp": "2099-01-01"}, "Expected `float`"),
        ({"exp": 1e30}, "claims"),
        ({"exp": True}, "Expected `float`"),
        ({"nbf": 9_999_999_999}, "not yet valid"),
        ({"sub": None}, "missing required field `sub`"),
        ({"sub": ""}, "claims"),
        ({"sub": "a\x00b"}, "claims"),
        ({"sub": "x" * 257}, "claims"),
        ({"aud": "another"}, "another audience"),
        ({"scope": ["agent:read"]}, "Expected `str"),
        ({"agents": "agent-1"}, "claims"),
        ({"agents": [AGENT] * 1000}, "too long"),
        ({"secret": SECRET[:-1]}, "bad signature"),
        ({"algorithm": "HS384"}, "algorithm is not HS256"),
        ({"algorithm": "HS512"}, "algorithm is not HS256"),
    ],
)
def test_a_token_that_is_not_good_now_stands_for_nobody(
    claims: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed(**claims)
    with caplog.at_level(logging.INFO), pytest.raises(UnauthorizedError) as refused:
        identify(token, loopback=True)
    [record] = [r for r in caplog.records if r.message == "token refused"]
    assert reason in vars(record)["reason"]
    assert str(refused.value) == ""
    assert token not in caplog.text


def test_a_token_nobody_signed_stands_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    claims = b64({"sub": "ann", "exp": now() + 60})
    good = signed()
    for token in (
        f"{b64({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
        f"{b64({'alg': 'None'})}.{claims}.",
        f"{b64({'alg': 'HS256'})}.{claims}.",
        f"{b64({'typ': 'JWT'})}.{claims}.x",
        f"{good.rpartition('.')[0]}.",
        f"{good.partition('.')[0]}.{b64({'sub': 'root', 'exp': now() + 60})}.{good.rpartition('.')[2]}",
        "a.b.c",
        "..",
        "\x00.\ud7ff.é",
        good + "." + good,
        "x" * 100_000,
        good[:-4],
    ):
        with caplog.at_level(logging.INFO), pytest.raises(UnauthorizedError):
            identify(token, loopback=True)


def test_a_token_is_no_key_where_there_is_no_secret() -> None:
    with pytest.raises(UnauthorizedError):
        identify(signed(), settings=Settings(api_key="k"))


def test_a_token_ends_in_the_very_second(time: ManualClock) -> None:
    tokens, token = Tokens(KEYED_SETTINGS), signed(exp=now() + 10)
    time.seconds += 9.5
    tokens.identify(token, loopback=False)
    time.seconds += 0.5
    with pytest.raises(UnauthorizedError):
        tokens.identify(token, loopback=False)


# --- tickets --------------------------------------------------------------------------------


def test_a_ticket_is_good_once() -> None:
    tokens, identity = Tokens(KEYED_SETTINGS), identify(signed(agents=[AGENT]))
    ticket = tokens.ticket(identity)
    other = tokens.ticket(Identity(KEYED))
    assert tokens.redeem(ticket) is identity
    for spent in (ticket, ticket[:-1], ""):
        with pytest.raises(UnauthorizedError):
            tokens.redeem(spent)
    assert tokens.redeem(other).caller is KEYED


def test_a_ticket_is_good_for_half_a_minute(time: ManualClock) -> None:
    tokens = Tokens(KEYED_SETTINGS)
    early, late = tokens.ticket(Identity(KEYED)), tokens.ticket(Identity(KEYED))
    time.seconds += 29.9
    tokens.redeem(early)
    time.seconds += 0.1
    with pytest.raises(UnauthorizedError):
        tokens.redeem(late)


def test_a_ticket_ends_with_the_token_behind_it(time: ManualClock) -> None:
    tokens = Tokens(KEYED_SETTINGS)
    ticket = tokens.ticket(tokens.identify(signed(exp=now() + 5), loopback=False))
    time.seconds += 5
    with pytest.raises(UnauthorizedError):
        tokens.redeem(ticket)


def test_tickets_are_bounded_and_old_ones_make_room(time: ManualClock) -> None:
    tokens = Tokens(KEYED_SETTINGS)
    for _ in range(MAX_TICKETS):
        tokens.ticket(Identity(KEYED))
    with pytest.raises(TooManyRequestsError):
        tokens.ticket(Identity(KEYED))
    time.seconds += 30
    tokens.redeem(tokens.ticket(Identity(KEYED)))


@pytest.mark.parametrize(
    ("query", "ticket"),
    [(b"", None), (b"a=b", None), (b"ticket=", None), (b"a=1&ticket=x-_", "x-_"), (b"ticket=\xff", None)],
)
def test_a_ticket_stands_in_the_query(query: bytes, ticket: str | None) -> None:
    assert ticket_in(query) == ticket


# --- the documentation ----------------------------------------------------------------------


def test_the_documented_way_to_make_a_token_makes_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (docs.FOLDER / "realtime.md").read_text(encoding="utf-8").partition("\n## Tokens\n")[2]
    [example] = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    monkeypatch.setenv("WAKEFUL_JWT_SECRET", SECRET)
    exec(compile(example, "realtime.md", "exec"), {})  # the page is ours
    found = identify(capsys.readouterr().out.strip())
    assert found.caller.scopes == {READ, SEND}
    assert found.caller.agents is not None
    assert all(f"`{scope}`" in page for scope in SCOPES)
