"""Who may call."""

import pytest

from gateway.auth import KEYED, LOOPBACK, MAX_HEADER_BYTES, Caller, Gate
from gateway.errors import (
    BadArgumentError,
    ForbiddenError,
    HeadersTooLargeError,
    MisdirectedError,
    UnauthorizedError,
    UnsupportedMediaError,
)

USER = "user-00000000-0000-4000-8000-00000000000a"
JSON = (b"content-type", b"application/json")
BROWSER = (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
BODY = (b"content-length", b"2")
HOST = (b"host", b"127.0.0.1:8283")


def admit(key: str | None, *headers: tuple[bytes, bytes], public: bool = False) -> Caller:
    return Gate(key).admit(headers, dict(headers), public=public)


# --- with a key -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer k"),
        (b"authorization", b"bearer  k "),
        (b"x-bare-password", b"password k"),
    ],
)
def test_the_key_opens_in_both_forms(header: tuple[bytes, bytes]) -> None:
    assert admit("k", header) is KEYED


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer K")],
        [(b"authorization", b"Bearer kk")],
        [(b"authorization", b"Basic aw==")],
        [(b"authorization", b"k")],
        [(b"authorization", b"Bearer \xff\x00")],
        [(b"authorization", b"Bearer " + b"k" * 10_000)],
        [(b"x-bare-password", b"k")],
        [(b"x-bare-password", b"password")],
        [(b"authorization", b"Bearer k"), (b"authorization", b"Bearer x")],
        [(b"authorization", b"Bearer k"), (b"authorization", b"Bearer k")],
    ],
)
def test_anything_else_stays_outside(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UnauthorizedError):
        admit("k", *headers)


def test_public_routes_need_no_key() -> None:
    assert admit("k", public=True) is KEYED


def test_with_a_key_any_host_and_origin_may_call() -> None:
    headers = [(b"authorization", b"Bearer k"), (b"host", b"a.example"), (b"origin", b"https://b.example")]
    assert admit("k", *headers) is KEYED


# --- without one ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST:8283", b"127.0.0.1:1", b"127.9.9.9", b"[::1]:8283", b"app.localhost:3000"],
)
def test_without_a_key_this_machine_may_call(host: bytes) -> None:
    assert admit(None, (b"host", host)) is LOOPBACK


@pytest.mark.parametrize(
    "host",
    [b"", b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"127.0.0.1@evil", b"[::2]"],
)
def test_a_rebound_name_is_misdirected(host: bytes) -> None:
    with pytest.raises(MisdirectedError):
        admit(None, (b"host", host))


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"file://", b"http://localhost.evil.example", b"http://127.0.0.1@x"],
)
def test_a_page_of_another_origin_is_forbidden(origin: bytes) -> None:
    with pytest.raises(ForbiddenError):
        admit(None, HOST, (b"origin", origin))


def test_a_page_of_this_machine_may_call() -> None:
    assert admit(None, HOST, (b"origin", b"http://localhost:3000")) is LOOPBACK


@pytest.mark.parametrize(
    "kind", [b"application/json", b"application/json; charset=utf-8", b'Application/JSON;charset="UTF8"']
)
def test_json_bodies_are_taken(kind: bytes) -> None:
    assert admit(None, HOST, BODY, (b"content-type", kind)) is LOOPBACK


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/json; charset=utf-7",
        b"application/jsonx",
        b"",
    ],
)
def test_bodies_that_a_form_could_send_are_not(kind: bytes) -> None:
    with pytest.raises(UnsupportedMediaError):
        admit(None, HOST, BODY, (b"content-type", kind))
    with pytest.raises(UnsupportedMediaError):
        admit(None, HOST, (b"transfer-encoding", b"chunked"))


def test_without_a_body_no_type_is_needed() -> None:
    assert admit(None, HOST, (b"content-length", b"0")) is LOOPBACK


# --- always ---------------------------------------------------------------------------------


def test_a_user_is_recorded_and_a_malformed_one_refused() -> None:
    assert admit(None, HOST, (b"user_id", USER.encode())).user_id == USER
    for junk in (b"user-1", b"", USER.encode() + b"x", b"\xff"):
        with pytest.raises(BadArgumentError):
            admit(None, HOST, (b"user_id", junk))


def test_a_deciding_header_that_comes_twice_is_refused_and_others_are_not() -> None:
    with pytest.raises(BadArgumentError):
        admit(None, HOST, (b"host", b"evil.example"))
    with pytest.raises(BadArgumentError):
        admit(None, HOST, JSON, BODY, (b"content-type", b"text/plain"))
    assert admit(None, HOST, (b"accept", b"a"), (b"accept", b"b")) is LOOPBACK


def test_headers_have_a_bound() -> None:
    with pytest.raises(HeadersTooLargeError):
        admit(None, HOST, (b"a", b"x" * MAX_HEADER_BYTES))


@pytest.mark.parametrize(
    "sign",
    [
        BROWSER,
        (b"origin", b"http://localhost:3000"),
        (b"referer", b"http://localhost:3000/page"),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"no-cors"),
    ],
)
def test_a_browsers_form_without_a_key_needs_what_no_web_page_can_send(sign: tuple[bytes, bytes]) -> None:
    form = (b"content-type", b"multipart/form-data; boundary=x")
    own = (b"x-requested-with", b"page")
    for headers, forms in (((HOST, BODY, form, sign), True), ((HOST, BODY, form, own), False)):
        with pytest.raises(UnsupportedMediaError):
            Gate(None).admit(headers, dict(headers), public=False, forms=forms)
    headers = (HOST, BODY, form, sign, own)
    assert Gate(None).admit(headers, dict(headers), public=False, forms=True) is LOOPBACK


@pytest.mark.parametrize("agent", [b"curl/8.14.1", b"python-requests/2.32.5", None])
def test_a_form_of_a_program_needs_no_more_than_itself(agent: bytes | None) -> None:
    headers = [HOST, BODY, (b"content-type", b"multipart/form-data; boundary=x")]
    if agent is not None:
        headers.append((b"user-agent", agent))
    assert Gate(None).admit(headers, dict(headers), public=False, forms=True) is LOOPBACK
    with pytest.raises(UnsupportedMediaError):
        Gate(None).admit(headers, dict(headers), public=False, forms=False)
