"""Stored messages as AG-UI shows them, under the ids of their streams."""

from typing import Any

import pytest
from ag_ui.core import Message as AguiMessage
from pydantic import TypeAdapter

from gateway.agui import messages as agui_messages
from storage.records import ApprovalPart, ImagePart, TextPart, ToolReturnPart
from tests.gateway.agui_events import ANSWER, RESULT, message

_adapter: TypeAdapter[AguiMessage] = TypeAdapter(AguiMessage)


def test_what_a_model_said_is_its_thoughts_then_its_text_and_calls() -> None:
    thought, said = agui_messages.show(ANSWER, thoughts=True)
    assert (thought["role"], thought["id"], thought["content"]) == ("reasoning", "reasoning-1", "Hm.")
    assert (said["role"], said["id"], said["content"]) == ("assistant", "message-1", "Hi")
    assert said["toolCalls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert [one["role"] for one in agui_messages.show(ANSWER, thoughts=False)] == ["assistant"]


def test_what_a_client_sent_keeps_the_clients_id() -> None:
    sent = message("user", TextPart("hi"), otid="mine")
    assert [one["id"] for one in agui_messages.show(sent, thoughts=True)] == ["mine"]


def test_results_stand_alone_and_say_what_failed() -> None:
    both = message(
        "tool", ToolReturnPart("a", "f", "success", "fine"), ToolReturnPart("b", "f", "error", "bad")
    )
    fine, bad = agui_messages.show(both, thoughts=True)
    assert (fine["toolCallId"], fine["content"], "error" in fine) == ("a", "fine", False)
    assert (bad["id"], bad["error"]) == ("result-b", "bad")


def test_a_result_with_images_is_its_text_and_they() -> None:
    image = ImagePart({"type": "url", "url": "https://x.example/a.png"})
    stored = message("tool", ToolReturnPart("a", "look", "success", "", images=(image,)))
    (shown,) = agui_messages.show(stored, thoughts=True)
    assert shown["content"] == [{"type": "image", "source": {"type": "url", "value": image.source["url"]}}]


def listed(*roles: str, size: int = 100) -> list[dict[str, Any]]:
    return [{"id": str(place), "role": role, "content": "x" * size} for place, role in enumerate(roles)]


def test_of_a_list_that_fits_nothing_is_left_out() -> None:
    shown = listed("assistant", "user", "tool", "assistant")
    assert agui_messages.newest(shown, 10_000, whole=True) == 0
    assert agui_messages.newest([], 10, whole=True) == agui_messages.newest([], 10, whole=False) == 0


@pytest.mark.parametrize(
    ("roles", "fitting", "whole", "begin"),
    [
        (["user", "assistant", "user", "assistant"], 3, True, 2),
        (["user", "assistant", "tool", "assistant"], 2, True, 3),
        (["user", "assistant", "tool", "tool"], 2, True, 2),
        (["assistant", "user", "assistant"], 9, False, 1),
        (["user", "assistant"], 9, False, 0),
        (["user", "assistant"], 0, True, 1),
    ],
)
def test_a_part_begins_with_a_message_of_the_user_if_it_has_one(
    roles: list[str], fitting: int, whole: bool, begin: int
) -> None:
    shown = listed(*roles)
    assert agui_messages.newest(shown, fitting * 150, whole=whole) == begin


def test_neither_the_system_prompt_nor_answers_to_requests_are_shown() -> None:
    hidden = [
        message("system", TextPart("You are …"), position=0),
        message("approval", ApprovalPart("c1", approve=True)),
    ]
    assert agui_messages.show_all(hidden, thoughts=True) == []


def test_every_message_is_one_of_the_official_types() -> None:
    images = [
        ImagePart({"type": "url", "url": "https://x.example/a.png"}),
        ImagePart({"type": "base64", "media_type": "image/png", "data": "aGk="}),
        ImagePart({"type": "letta", "file_id": "file-1"}),
    ]
    stored = [
        ANSWER,
        RESULT,
        message("user", TextPart("see"), *images, name="Ada"),
        message("system", TextPart("The page is home"), position=4),
        message("summary", TextPart("They met.")),
        message("tool", ToolReturnPart("a", "look", "success", "see", images=tuple(images))),
    ]
    shown = agui_messages.show_all(stored, thoughts=True)
    assert len(shown) == 7
    for one in shown:
        read = _adapter.validate_python(one)
        assert not read.model_extra
