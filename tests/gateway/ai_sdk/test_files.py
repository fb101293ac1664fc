"""Images in the outputs of tools, as the AI SDK writes them: read, refused, and shown again."""

from typing import Any

import pytest

from gateway.ai_sdk import files
from gateway.errors import InvalidRequestError, NotSupportedError
from storage.records import ImagePart

PNG = "iVBORw0KGgo="
INLINE = ImagePart({"type": "base64", "media_type": "image/png", "data": PNG})
LINKED = ImagePart({"type": "url", "url": "https://example.com/a.png"})


def content(*parts: Any) -> dict[str, Any]:
    return {"type": "content", "value": list(parts)}


def file(media_type: str = "image/png", **data: Any) -> dict[str, Any]:
    return {"type": "file", "mediaType": media_type, "data": data}


@pytest.mark.parametrize(
    ("part", "image"),
    [
        (file(type="data", data=PNG), INLINE),
        (file("image", type="data", data=PNG), INLINE),
        (file("image/*", type="data", data=PNG), INLINE),
        (file(type="url", url="https://example.com/a.png"), LINKED),
        (file(type="url", url=f"data:image/png;base64,{PNG}"), INLINE),
        ({"type": "file-data", "data": PNG, "mediaType": "image/png"}, INLINE),
        ({"type": "file-url", "url": "https://example.com/a.png", "mediaType": "image/png"}, LINKED),
        ({"type": "image-data", "data": PNG, "mediaType": "image/png"}, INLINE),
        ({"type": "image-url", "url": "https://example.com/a.png"}, LINKED),
        ({"type": "media", "data": PNG, "mediaType": "image/png"}, INLINE),
    ],
)
def test_every_way_to_write_an_image_is_read(part: dict[str, Any], image: ImagePart) -> None:
    assert files.returned(content({"type": "text", "text": "see"}, part), "") == ("see", (image,))


@pytest.mark.parametrize(
    ("begins", "kind"), [("/9j/AA==", "jpeg"), ("R0lGODlh", "gif"), ("UklGRgAA", "webp")]
)
def test_an_image_that_does_not_say_its_type_is_known_by_its_beginning(begins: str, kind: str) -> None:
    found = files.returned(content(file("image", type="data", data=begins)), "")
    assert found == ("", (ImagePart({"type": "base64", "media_type": f"image/{kind}", "data": begins}),))


@pytest.mark.parametrize(
    "output",
    [
        "text",
        None,
        7,
        [file(type="data", data=PNG)],
        {"type": "content", "value": 3},
        {"type": "content", "value": []},
        {"type": "text", "value": "said"},
        content({"type": "text", "text": "no file"}),
        content(file(type="data", data=PNG), "a word"),
    ],
)
def test_what_holds_no_files_is_json_of_the_clients_own(output: Any) -> None:
    assert files.returned(output, "") is None


@pytest.mark.parametrize(
    ("part", "error", "param"),
    [
        (file("application/pdf", type="data", data=PNG), NotSupportedError, ""),
        (file("image/png", type="reference", reference={"openai": "f"}), NotSupportedError, "/data"),
        ({"type": "file-id", "fileId": "f"}, NotSupportedError, ""),
        ({"type": "image-file-reference", "providerReference": {}}, NotSupportedError, ""),
        (file("image/tiff", type="data", data=PNG), InvalidRequestError, "/source/media_type"),
        (file("image/png", type="data", data="not base64"), InvalidRequestError, "/source/data"),
        (file("image/png", type="data", data={"0": 137}), InvalidRequestError, "/source/data"),
        (file("image", type="data", data="AAAA"), InvalidRequestError, "/source/media_type"),
        (file("image/png", type="url", url="file:///etc/passwd"), InvalidRequestError, "/source/url"),
        (file("image/png", type="url"), InvalidRequestError, "/data/url"),
        (file("image/png"), InvalidRequestError, "/data"),
        ({"type": "file", "data": {"type": "data", "data": PNG}}, InvalidRequestError, "/mediaType"),
    ],
)
def test_what_no_provider_could_be_sent_is_refused_with_its_place(
    part: dict[str, Any], error: type[Exception], param: str
) -> None:
    with pytest.raises(error) as refused:
        files.returned(content({"type": "text", "text": "see"}, part), "/output")
    assert getattr(refused.value, "param", None) == f"/output/value/1{param}"


def test_a_part_beside_a_file_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NotSupportedError, match="custom"):
        files.returned(content({"type": "custom"}, file(type="data", data=PNG)), "")


def test_a_result_with_images_is_shown_as_it_is_read() -> None:
    shown = files.content_of("see", [INLINE, LINKED])
    assert files.returned(shown, "") == ("see", (INLINE, LINKED))
    assert files.returned(files.content_of("", [INLINE]), "") == ("", (INLINE,))
