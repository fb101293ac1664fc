"""Reads `multipart/form-data` bodies of modest size (RFC 7578): fields and files by name. Pure."""

from email.errors import MessageError
from email.message import Message
from email.parser import Parser
from email.policy import compat32
from itertools import takewhile

from gateway.errors import InvalidRequestError, UnsupportedMediaError

MAX_FIELDS = 50
HEAD_BYTES = 8 * 1024  # of a part's headers, and of the form's own
_PLAIN = ("7bit", "8bit", "binary")
# What the parser of parameters raises: numbers of RFC 2231 may be too long, or stand beside one without.
_UNREADABLE = (MessageError, ValueError, LookupError, TypeError)


def form(data: bytes, content_type: bytes) -> dict[str, bytes]:
    """Return the contents of a form's fields by name; of a repeated name the last counts.

    It costs a few passes over the bytes, whatever they are: fields are not looked into.

    Raises:
        UnsupportedMediaError: The body is said to be something else.
        InvalidRequestError: It is not a whole form, has too many fields, or one is encoded for mail.
    """
    if not content_type.lower().startswith(b"multipart/form-data"):
        raise UnsupportedMediaError("send the file as multipart/form-data")
    _, *parts = (b"\r\n" + data).split(b"\r\n--" + _boundary(content_type), MAX_FIELDS + 1)
    fields = list(takewhile(lambda part: not part.startswith(b"--"), parts))
    if not fields:
        raise InvalidRequestError("the form has no fields", kind="invalid_form")
    if len(fields) > MAX_FIELDS:
        raise InvalidRequestError(f"the form has more than {MAX_FIELDS} fields", kind="invalid_form")
    if len(fields) == len(parts):
        raise InvalidRequestError("the form is not whole: its last boundary is missing", kind="invalid_form")
    return {name: value for name, value in map(_field, fields) if name is not None}


def _boundary(content_type: bytes) -> bytes:
    # Line ends in the head of the media type would begin another header.
    line = content_type.replace(b"\r", b" ").replace(b"\n", b" ")
    try:
        found = _headers(b"Content-Type: " + line).get_boundary("").encode("latin-1")
    except _UNREADABLE:
        raise _malformed() from None
    if not found:
        raise InvalidRequestError("the form names no boundary", kind="invalid_form")
    return found


def _field(part: bytes) -> tuple[str | None, bytes]:
    """Return name and contents of what stands between two boundaries; a part may have no name."""
    end = part.find(b"\r\n\r\n", 0, HEAD_BYTES)
    padding, _, head = part[: max(0, end)].partition(b"\r\n")
    if end < 0 or padding.strip(b" \t"):
        raise _malformed()
    headers = _headers(head)
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in _PLAIN:
        raise InvalidRequestError("send the fields of a form without transfer encoding", kind="invalid_form")
    try:
        name = headers.get_param("name", header="content-disposition")
    except _UNREADABLE:
        raise _malformed() from None
    return name if isinstance(name, str) else None, part[end + 4 :]


def _headers(head: bytes) -> Message:
    if len(head) > HEAD_BYTES:
        raise _malformed()
    return Parser(policy=compat32).parsestr(head.decode("utf-8", "replace"), headersonly=True)


def _malformed() -> InvalidRequestError:
    return InvalidRequestError("the form is malformed", kind="invalid_form")
