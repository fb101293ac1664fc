"""Reads `multipart/form-data` bodies of modest size: fields and files by name."""

from email.errors import MessageError
from email.parser import BytesParser
from email.policy import HTTP

from gateway.errors import InvalidRequestError, UnsupportedMediaError

MAX_FIELDS = 50


def form(data: bytes, content_type: bytes) -> dict[str, bytes]:
    """Return the contents of a form's fields by name; of a repeated name the last counts.

    Raises:
        UnsupportedMediaError: The body is said to be something else.
        InvalidRequestError: It is not a form, or has too many fields.
    """
    if not content_type.lower().startswith(b"multipart/form-data"):
        raise UnsupportedMediaError("send the file as multipart/form-data")
    # Line ends in the head of the media type would begin another header.
    head = b"Content-Type: " + content_type.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n\r\n"
    try:
        parsed = BytesParser(policy=HTTP).parsebytes(head + data)
        parts = list(parsed.iter_parts()) if parsed.is_multipart() else []
    except (MessageError, ValueError, LookupError) as error:
        raise InvalidRequestError("the form is malformed", kind="invalid_form") from error
    if not parts:
        raise InvalidRequestError("the form has no fields", kind="invalid_form")
    if len(parts) > MAX_FIELDS:
        raise InvalidRequestError(f"the form has more than {MAX_FIELDS} fields", kind="invalid_form")
    found: dict[str, bytes] = {}
    for part in parts:
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            found[name] = payload
    return found
