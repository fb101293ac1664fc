"""Images that clients send: which of them a provider can be sent. Pure."""

from urllib.parse import urlsplit

from gateway.errors import InvalidRequestError, NotSupportedError
from storage.records import JsonObject

MAX_URL_CHARS = 8192
MAX_IMAGE_CHARS = 10 * 1024 * 1024  # of base64, in one image; the body's own limit bounds their sum
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def check(source: JsonObject, at: str) -> None:
    """Refuse an image that no provider could be sent; `at` points at it. URLs are never fetched here.

    Raises:
        InvalidRequestError: It is none, too long or of a type that models do not take.
        NotSupportedError: It names a file.
    """
    match source.get("type"):
        case "url":
            _check_url(source.get("url"), at)
        case "base64":
            _check_base64(source.get("media_type"), source.get("data"), at)
        case "letta":
            raise NotSupportedError("no files are kept here: send an image as base64 or by its URL", param=at)
        case _:
            raise InvalidRequestError("an image source has the type url or base64", param=f"{at}/type")


def _check_url(url: object, at: str) -> None:
    if not isinstance(url, str) or len(url) > MAX_URL_CHARS or not is_web_url(url):
        raise InvalidRequestError("an image URL must be http or https", param=f"{at}/url")


def is_web_url(url: str) -> bool:
    """Say whether `url` is a well-formed http or https URL with a host and without credentials."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        return usable and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _check_base64(media_type: object, data: object, at: str) -> None:
    if media_type not in IMAGE_TYPES:
        raise InvalidRequestError(
            f"an image must be one of {', '.join(IMAGE_TYPES)}", param=f"{at}/media_type"
        )
    if not isinstance(data, str) or not data:
        raise InvalidRequestError("a base64 image needs data", param=f"{at}/data")
    if len(data) > MAX_IMAGE_CHARS:
        raise InvalidRequestError(
            f"an inline image has at most {MAX_IMAGE_CHARS} characters of base64", param=f"{at}/data"
        )
    if len(data) % 4 or data[:-2].encode().translate(None, _BASE64) or not _ends_base64(data[-2:]):
        raise InvalidRequestError("data is not base64", param=f"{at}/data")


def _ends_base64(tail: str) -> bool:
    """Say whether the last two characters may end base64: at most both of them are padding."""
    return tail == "==" or not tail.removesuffix("=").encode().translate(None, _BASE64)
