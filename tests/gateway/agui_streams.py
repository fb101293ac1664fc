"""Reading AG-UI streams in tests: server-sent events, and what the validator says of them."""

from typing import Any

import jsonpatch
import msgspec
from ag_ui.core import Event as AguiEvent
from ag_ui_validate import Validator, ValidatorOptions
from pydantic import TypeAdapter

_adapter: TypeAdapter[Any] = TypeAdapter(AguiEvent)


def parse(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """Return (id, event) of every server-sent event; comments are passed over."""
    found: list[tuple[str | None, dict[str, Any]]] = []
    for chunk in text.split("\n\n"):
        lines = [line for line in chunk.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if "data" in fields:
            found.append((fields.get("id"), msgspec.json.decode(fields["data"])))
    return found


def events(text: str) -> list[dict[str, Any]]:
    """Return the events alone."""
    return [event for _, event in parse(text)]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """Return their types, a custom event's with its name."""
    return [f"CUSTOM:{e['name']}" if e["type"] == "CUSTOM" else e["type"] for e in found]


def check(found: list[dict[str, Any]], *, off: tuple[str, ...] = ()) -> None:
    """Assert that the official types take every event and the validator has nothing to complain about.

    Information is no complaint. `off` are rules that cannot be judged here.
    """
    validator = Validator(ValidatorOptions(severity_overrides=dict.fromkeys(off, "off")))
    said = [d for event in found for d in validator.feed(event)]
    said += validator.finalize()
    report = validator.report()
    assert not report.internal_errors, report.internal_errors
    assert not [d for d in said if d.severity != "info"], said
    for event in found:
        check_type(event)


def check_type(event: dict[str, Any]) -> None:
    """Assert that the official type takes an event, with no field that it does not know and none null."""
    read: Any = _adapter.validate_python(event)
    assert not read.model_extra, (event, read.model_extra)
    assert None not in event.values(), event


def state(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the state that a client has at the end of a stream."""
    held: Any = None
    for event in found:
        if event["type"] == "STATE_SNAPSHOT":
            held = event["snapshot"]
        elif event["type"] == "STATE_DELTA":
            held = jsonpatch.apply_patch(held, event["delta"])
    return held


def messages(found: list[dict[str, Any]]) -> dict[str, str]:
    """Return what a client shows at the end of streams: its messages' text by their ids, in order."""
    shown: dict[str, str] = {}
    for event in found:
        match event["type"]:
            case "RUN_STARTED":
                for one in event["input"]["messages"]:
                    shown.setdefault(one["id"], one["content"])
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                shown.setdefault(event["messageId"], "")
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                shown[event["messageId"]] += event["delta"]
            case "TOOL_CALL_RESULT":
                assert event["messageId"] not in shown, "clients would show it twice"
                shown[event["messageId"]] = event["content"]
            case "MESSAGES_SNAPSHOT":
                shown = {one["id"]: one.get("content", "") for one in event["messages"]}
            case _:
                pass
    return shown
