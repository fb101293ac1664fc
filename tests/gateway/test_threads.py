"""Threads of front ends that name a conversation themselves."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.commands import InputMessage
from gateway import threads
from gateway.decode import UUID4
from gateway.errors import InvalidRequestError
from storage.records import TextPart

AGENT = "agent-00000000-0000-4000-8000-00000000000a"
OTHER = "agent-00000000-0000-4000-8000-00000000000b"
CONVERSATION = "conv-00000000-0000-4000-8000-00000000000c"


def said(*otids: str | None) -> list[InputMessage]:
    return [InputMessage(role="user", content=(TextPart("hi"),), otid=otid) for otid in otids]


@pytest.mark.parametrize(
    ("thread_id", "expected"), [("default", AGENT), (AGENT, AGENT), (CONVERSATION, CONVERSATION)]
)
def test_some_ids_name_a_conversation_that_is_there(thread_id: str, expected: str) -> None:
    assert threads.conversation_id(AGENT, thread_id) == expected


@given(st.text(min_size=1, max_size=256), st.text(min_size=1, max_size=256))
def test_every_other_id_is_a_conversation_of_its_own(one: str, other: str) -> None:
    found = threads.conversation_id(AGENT, one)
    assert re.fullmatch(f"conv-{UUID4}", found) or one in ("default", AGENT)
    assert (found == threads.conversation_id(AGENT, other)) == (one == other)
    assert found != threads.conversation_id(OTHER, one)


def test_an_id_is_the_same_conversation_in_every_process() -> None:
    assert threads.conversation_id(AGENT, "chat") == "conv-81ec52b9-44c7-4c76-b52c-76644a9ab71f"


@pytest.mark.parametrize("thread_id", ["", "x" * 257])
def test_an_id_has_bounds(thread_id: str) -> None:
    with pytest.raises(InvalidRequestError):
        threads.conversation_id(AGENT, thread_id)


@pytest.mark.parametrize(
    ("sent", "known", "new"),
    [
        (("a", "b"), {}, ["a", "b"]),
        (("a", "b"), {"a": "run-1"}, ["b"]),
        (("a", "b", "c"), {"b": "run-1"}, ["c"]),
        (("a", "b"), {"a": "run-1", "b": "run-1"}, []),
        ((None, "b"), {"a": "run-1"}, [None, "b"]),
        ((), {}, []),
    ],
)
def test_what_follows_the_last_known_message_is_new(
    sent: tuple[str | None, ...], known: dict[str, str], new: list[str | None]
) -> None:
    assert [message.otid for message in threads.unheard(said(*sent), known)] == new
