"""Images that clients send."""

from typing import Any

import pytest

from gateway import images
from gateway.errors import InvalidRequestError, NotSupportedError

PNG = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}


@pytest.mark.parametrize("source", [PNG, {"type": "url", "url": "https://example.com:8443/a.png"}])
def test_what_a_provider_can_be_sent_is_taken(source: dict[str, Any]) -> None:
    images.check(source, "/source")


@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "file:///etc/passwd"},
        {"type": "url", "url": "data:image/png;base64,aGk="},
        {"type": "url", "url": "https://"},
        {"type": "url", "url": "https://user:pw@example.com/a.png"},
        {"type": "url", "url": "https://example.com:99999/a.png"},
        {"type": "url", "url": "https://example.com/" + "a" * images.MAX_URL_CHARS},
        {"type": "url", "url": 5},
        {"type": "url"},
        {**PNG, "media_type": "image/svg+xml"},
        {**PNG, "data": ""},
        {**PNG, "data": "aGVsbG8"},
        {**PNG, "data": "aGVs\nbG8="},
        {**PNG, "data": "a=VsbG8="},
        {**PNG, "data": "aGVsbG8é"},
        {**PNG, "data": "A" * (images.MAX_IMAGE_CHARS + 4)},
        {"type": "base64"},
        {"type": "ftp", "url": "x"},
        {},
    ],
)
def test_an_image_that_no_provider_could_be_sent_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        images.check(source, "/source")


def test_an_image_in_a_file_is_named_as_unsupported() -> None:
    with pytest.raises(NotSupportedError):
        images.check({"type": "letta", "file_id": "f"}, "/source")
