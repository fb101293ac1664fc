"""Messages as calls hold them."""

import pytest

from gateway.auth import KEYED, LOOPBACK, Caller
from gateway.errors import InvalidRequestError
from gateway.rpc import messages as rpc_messages
from gateway.rpc.messages import MessageData
from storage.records import ImagePart, TextPart

PICTURE = ImagePart({"type": "url", "url": "https://example.org/a.png"})


def test_messages_are_read_as_rest_reads_them() -> None:
    given = [
        MessageData(role="user", content="hi", name="ann", otid="o-1", sender_id="s"),
        MessageData(role="user", content=(TextPart("look"), PICTURE)),
    ]
    first, second = rpc_messages.read(given)
    assert (first.content, first.name, first.otid, first.sender_id) == ((TextPart("hi"),), "ann", "o-1", "s")
    assert second.content == (TextPart("look"), PICTURE)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "/messages"),
        ([MessageData(role="user", content="x")] * 1001, "/messages"),
        ([MessageData(role="user", content=())], "/messages/0/content"),
        ([MessageData(role="system", content=(PICTURE,))], "/messages/0/content"),
        ([MessageData(role="user", content="x", otid="")], "/messages/0/otid"),
    ],
)
def test_messages_that_cannot_be_meant_are_refused(messages: list[MessageData], param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        rpc_messages.read(messages)
    assert error.value.param == param


def test_a_key_is_that_of_one_caller_and_one_id() -> None:
    callers = (KEYED, LOOPBACK, Caller("token:a"), Caller("token:a", "org-2"))
    keys = {rpc_messages.key_of(caller, name) for caller in callers for name in ("a", "b")}
    assert len(keys) == 8
    assert rpc_messages.key_of(KEYED, "a") in keys
