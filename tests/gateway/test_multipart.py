import pytest

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
