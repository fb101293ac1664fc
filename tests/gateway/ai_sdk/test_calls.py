"""The calls of an AI SDK stream: each is shown once, in the order in which things happened to it."""

from typing import Any

import msgspec

from gateway.ai_sdk import files
from gateway.ai_sdk.calls import Calls
from storage.records import ApprovalPart, ImagePart, ToolReturnPart


class Shown:
    """Calls of a stream, and the types of the chunks that they caused."""

    def __init__(self, *client_tools: str) -> None:
        self.calls = Calls(client_tools, known=(), settled=())
        self.out: list[bytes] = []

    def kinds(self) -> list[str]:
        return [self.chunk(place)["type"] for place in range(len(self.out))]

    def chunk(self, place: int) -> dict[str, Any]:
        return msgspec.json.decode(self.out[place].removeprefix(b"data: "))


def test_an_approval_that_is_told_after_the_result_stands_before_it() -> None:
    shown = Shown()
    shown.calls.ask("c1", "find", "{}", client=False, out=shown.out)
    shown.calls.returned("c1", "success", "42", shown.out)
    shown.calls.decide(ApprovalPart("c1", approve=True), shown.out)
    shown.calls.committed(ToolReturnPart("c1", "find", "success", "42"), shown.out)
    assert shown.kinds() == [
        "tool-input-available",
        "tool-approval-request",
        "tool-approval-response",
        "tool-output-available",
    ]


def test_an_image_in_a_result_is_in_the_output() -> None:
    image = ImagePart({"type": "url", "url": "https://x.example/a.png"})
    shown = Shown("camera")
    shown.calls.show("c1", "camera", "{}", shown.out)
    shown.calls.committed(ToolReturnPart("c1", "camera", "success", "Click.", images=(image,)), shown.out)
    assert shown.chunk(1)["output"] == files.content_of("Click.", (image,))


def test_a_denied_call_has_no_output() -> None:
    shown = Shown()
    shown.calls.ask("c1", "find", "{}", client=False, out=shown.out)
    shown.calls.decide(ApprovalPart("c1", approve=False, reason="no"), shown.out)
    shown.calls.committed(ToolReturnPart("c1", "find", "error", "denied"), shown.out)
    assert shown.kinds()[2:] == ["tool-approval-response", "tool-output-denied"]
    assert shown.chunk(2)["reason"] == "no"


def test_an_id_that_is_used_again_is_a_call_of_its_own() -> None:
    shown = Shown()
    for text in ("one", "two"):
        shown.calls.begin("c1", "find", shown.out)
        shown.calls.end("c1", shown.out)
        shown.calls.returned("c1", "success", text, shown.out)
        shown.calls.step_ended()
    assert [shown.chunk(place)["output"] for place in (2, 5)] == ["one", "two"]


def test_a_result_that_was_not_committed_may_change() -> None:
    shown = Shown()
    shown.calls.show("c1", "find", "{}", shown.out)
    shown.calls.returned("c1", "success", "42", shown.out)
    shown.calls.restart()
    shown.calls.committed(ToolReturnPart("c1", "find", "error", "interrupted"), shown.out)
    shown.calls.restart()
    shown.calls.committed(ToolReturnPart("c1", "find", "success", "again"), shown.out)
    assert shown.kinds() == ["tool-input-available", "tool-output-available", "tool-output-error"]


def test_a_step_that_is_taken_back_forgets_its_calls() -> None:
    shown = Shown()
    shown.calls.show("c1", "find", "{}", shown.out)
    shown.calls.step_ended()
    shown.calls.show("c2", "find", "{}", shown.out)
    shown.calls.reset()
    assert "c1" in shown.calls
    assert "c2" not in shown.calls


def test_a_clients_call_is_neither_dynamic_nor_executed_here() -> None:
    shown = Shown("map")
    shown.calls.ask("c1", "map", '{"at": "Bern"}', client=True, out=shown.out)
    assert shown.kinds() == ["tool-input-available"]
    assert shown.chunk(0)["input"] == {"at": "Bern"}
    assert not {"dynamic", "providerExecuted"} & shown.chunk(0).keys()
