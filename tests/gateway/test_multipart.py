import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import multipart
from gateway.errors import InvalidRequestError, UnsupportedMediaError

KIND = b"multipart/form-data; boundary=xyz"


def body(*parts: bytes) -> bytes:
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"


def field(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'Content-Disposition: form-data; name="' + name.encode() + b'"' + more + b"\r\n\r\n" + value


def test_fields_and_files_come_as_they_were_sent() -> None:
    data = bytes(range(32, 256)) + "\r\n{ä}\r\n".encode()
    file = field("file", data, b'; filename="a.af"\r\nContent-Type: application/octet-stream')
    assert multipart.form(body(file, field("name", "Zoë".encode())), KIND) == {
        "file": data,
        "name": "Zoë".encode(),
    }


def test_of_a_repeated_name_the_last_counts() -> None:
    assert multipart.form(body(field("a", b"1"), field("a", b"2")), KIND) == {"a": b"2"}


@pytest.mark.parametrize(
    ("data", "kind", "refusal"),
    [
        (b"{}", b"application/json", UnsupportedMediaError),
        (b"{}", b"", UnsupportedMediaError),
        (b"not a form", KIND, InvalidRequestError),
        (b"", KIND, InvalidRequestError),
        (body(field("a", b"1")), b"multipart/form-data", InvalidRequestError),
        (body(*[field(str(n), b"1") for n in range(51)]), KIND, InvalidRequestError),
        (body(field("a", b"1")), b"multipart/form-data\r\nX: y", InvalidRequestError),
    ],
)
def test_what_is_no_form_is_refused(data: bytes, kind: bytes, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        multipart.form(data, kind)


def test_forms_within_a_form_are_not_looked_into() -> None:
    inner = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2000)
    )
    nested = body(field("file", inner, b"\r\nContent-Type: multipart/mixed; boundary=b"))
    assert multipart.form(nested, KIND) == {"file": inner}


def test_of_a_million_parts_no_more_are_read_than_a_form_may_have() -> None:
    with pytest.raises(InvalidRequestError, match="more than 50 fields"):
        multipart.form(b"--xyz\r\n\r\n\r\n" * 1_000_000, KIND)


@given(st.binary().filter(lambda value: b"--xyz" not in value))
def test_any_bytes_come_as_they_were_sent(value: bytes) -> None:
    assert multipart.form(b"a preamble\r\n" + body(field("a", value)) + b"an epilogue", KIND) == {"a": value}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(body(field("a", b"1"))[: -len(b"--xyz--\r\n")], id="has no end"),
        pytest.param(body(b"Content-Disposition: form-data; name=a"), id="a part ends in its head"),
        pytest.param(body(b"X: " + b"y" * 10_000 + b"\r\n\r\n1"), id="a part's head is too long"),
        pytest.param(b"--xyzz\r\n" + field("a", b"1") + b"\r\n--xyz--", id="another boundary"),
        pytest.param(body(field("a", b"MQ==", b"\r\nContent-Transfer-Encoding: base64")), id="encoded"),
    ],
)
def test_a_form_that_is_not_whole_or_plain_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        multipart.form(data, KIND)


@pytest.mark.parametrize("parameter", [b"name*" + b"9" * 5000 + b"=a", b"name*=a; name*0=b"])
def test_parameters_that_cannot_be_put_together_make_a_malformed_form(parameter: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="malformed"):
        multipart.form(body(b"Content-Disposition: form-data; " + parameter + b"\r\n\r\n1"), KIND)
    kind = b"multipart/form-data; " + parameter.replace(b"name", b"boundary")
    with pytest.raises(InvalidRequestError, match="malformed"):
        multipart.form(body(field("a", b"1")), kind)
