"""The chunks of a UI message stream that say more than a delta."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import BlockChanged, BlockDetached
from gateway.ai_sdk import parts
from storage.records import Usage


@given(st.text())
def test_a_delta_is_one_event_whatever_its_text(text: str) -> None:
    head = parts.delta_head("text-delta", "id", "m1", "delta")
    event = head + msgspec.json.encode(text) + parts.END
    assert event.startswith(b"data: ")
    assert event.count(b"\n") == 2
    assert msgspec.json.decode(event[6:]) == {"type": "text-delta", "id": "m1", "delta": text}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", {}), ("  ", {}), ('{"a": 1}', {"a": 1}), ("[1]", [1]), ("{oops", None), ('{"a":1}x', None)],
)
def test_arguments_are_json_or_nothing(arguments: str, expected: object) -> None:
    parsed = parts.input_of(arguments)
    assert (None if parsed is None else msgspec.json.decode(parsed)) == expected


@pytest.mark.parametrize(
    ("text", "client", "expected"),
    [
        ('{"a": 1}', True, {"a": 1}),
        ('{"a": 1}', False, '{"a": 1}'),
        ("{oops", True, "{oops"),
        ("12", True, "12"),
        ("", True, ""),
    ],
)
def test_a_clients_result_comes_back_as_it_was_sent(text: str, client: bool, expected: object) -> None:
    assert msgspec.json.decode(msgspec.json.encode(parts.output_of(text, client=client))) == expected


def test_what_is_absent_is_left_out() -> None:
    assert parts.chunk("error", errorText="x", other=None) == b'data: {"type":"error","errorText":"x"}\n\n'


def test_every_edit_of_memory_is_a_part_of_its_own() -> None:
    events = [
        BlockChanged(None, "b1", "human", "a", 1, before=""),
        BlockChanged(None, "b1", "human", "b", 2),
        BlockDetached(None, "b1", "human"),
    ]
    found = [msgspec.json.decode(parts.memory(event)[6:]) for event in events]
    assert len({one["id"] for one in found}) == 3
    assert [one["data"].get("before") for one in found] == ["", None, None]
    assert found[2]["data"]["change"] == "detached"


def test_an_unknown_reason_is_other() -> None:
    assert b'"finishReason":"other"' in parts.finish("max_steps", Usage())
