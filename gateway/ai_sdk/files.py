"""Images as the AI SDK writes them: the files of a message, and those in the output of a tool. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

from msgspec import UnsetType

from gateway import decisions
from gateway.errors import InvalidRequestError, NotSupportedError
from storage.records import ImagePart, JsonObject, TextPart

# Parts of an output that hold a file (`ToolResultOutput` of @ai-sdk/provider-utils 5; `media` is that of 2).
_FILES = frozenset({"file", "file-data", "file-url", "image-data", "image-url", "media"})
_ELSEWHERE = frozenset({"file-id", "file-reference", "image-file-id", "image-file-reference"})

# How the base64 of each type begins: outputs may say no more than that it is an image.
_BEGINNINGS = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}


def image_of(url: str | None, media_type: str | None, at: str) -> ImagePart:
    """Return the image that a file's address names, or holds as a data URL; `at` points at the file.

    Raises:
        NotSupportedError: The file is no image.
        InvalidRequestError: A data URL holds no base64.
    """
    _check_type(media_type, at)
    head, comma, data = (url or "").partition(",")
    if not head.startswith("data:"):
        return ImagePart({"type": "url", "url": url})
    if not comma or not head.endswith(";base64"):
        raise InvalidRequestError("a data URL holds base64", param=f"{at}/url")
    return _inline(data, media_type)


def _check_type(media_type: str | None, at: str) -> None:
    kind = media_type or "unknown"
    if kind != "image" and not kind.startswith("image/"):
        raise NotSupportedError(f"files of type {kind} are not supported", param=at)


def _inline(data: object, media_type: str | None) -> ImagePart:
    kind = media_type
    if kind in ("image", "image/*") and isinstance(data, str):
        kind = next((known for head, known in _BEGINNINGS.items() if data.startswith(head)), kind)
    return ImagePart({"type": "base64", "media_type": kind, "data": data})


def file_of(source: JsonObject) -> JsonObject:
    """Return a stored image as a file of a message."""
    if source.get("type") == "base64":
        kind = source.get("media_type")
        return {"type": "file", "mediaType": kind, "url": f"data:{kind};base64,{source.get('data')}"}
    return {"type": "file", "mediaType": "image/*", "url": source.get("url")}


# --- outputs of tools ---------------------------------------------------------------------------


def returned(output: object, at: str) -> tuple[str, tuple[ImagePart, ...] | UnsetType] | None:
    """Return (text, images) of an output that holds files, `None` where it holds none; `at` points at it.

    It does as `{"type": "content", "value": [part, …]}`, which is how the SDK tells models of files.

    Raises:
        NotSupportedError: It holds a file that is no image, or one by an id.
        InvalidRequestError: It holds an image that no provider could be sent.
    """
    if not _is_content(output):
        return None
    parts = cast("list[JsonObject]", output["value"])
    found = tuple(_part(part, f"{at}/value/{place}") for place, part in enumerate(parts))
    return decisions.returned(found, f"{at}/value")


def _is_content(output: object) -> TypeGuard[JsonObject]:
    """Say whether an output is of parts, one of them a file at least. All else is the client's own JSON."""
    if not isinstance(output, dict):
        return False
    given = cast("JsonObject", output)
    value: object = given.get("value")
    if given.get("type") != "content" or not isinstance(value, list):
        return False
    parts = cast("list[Any]", value)
    kinds = {str(cast("JsonObject", part).get("type")) if isinstance(part, dict) else "" for part in parts}
    return "" not in kinds and bool(kinds & (_FILES | _ELSEWHERE))


def _part(part: Mapping[str, Any], at: str) -> TextPart | ImagePart:
    kind, text = part["type"], part.get("text")
    if kind == "text" and isinstance(text, str):
        return TextPart(text)
    if kind not in _FILES:
        raise NotSupportedError(f"a part of type {kind} is not supported in an output", param=at)
    media_type = "image" if kind == "image-url" else part.get("mediaType")
    if not isinstance(media_type, str):
        raise InvalidRequestError("a file has a mediaType", param=f"{at}/mediaType")
    _check_type(media_type, at)
    if kind.endswith("-url"):
        return image_of(_address(part, at), media_type, at)
    if kind == "file":
        return _tagged(part.get("data"), media_type, f"{at}/data")
    return _inline(part.get("data"), media_type)


def _tagged(data: object, media_type: str, at: str) -> ImagePart:
    """Return the image of a file whose data says what it is."""
    given = cast("JsonObject", data) if isinstance(data, dict) else {}
    match given.get("type"):
        case "data":
            return _inline(given.get("data"), media_type)
        case "url":
            return image_of(_address(given, at), media_type, at)
        case "reference" | "text" as kind:
            raise NotSupportedError(f"files by {kind} are not supported", param=at)
        case _:
            raise InvalidRequestError("the data of a file has the type data or url", param=at)


def _address(part: Mapping[str, Any], at: str) -> str:
    url = part.get("url")
    if not isinstance(url, str):
        raise InvalidRequestError("the address of a file is text", param=f"{at}/url")
    return url


def content_of(text: str, images: Sequence[ImagePart]) -> JsonObject:
    """Return a result with images as an output, as `returned` reads it."""
    said: list[JsonObject] = [{"type": "text", "text": text}] if text else []
    return {"type": "content", "value": [*said, *(_file(image.source) for image in images)]}


def _file(source: JsonObject) -> JsonObject:
    if source.get("type") == "base64":
        data = {"type": "data", "data": source.get("data")}
        return {"type": "file", "mediaType": source.get("media_type"), "data": data}
    return {"type": "file", "mediaType": "image", "data": {"type": "url", "url": source.get("url")}}
