import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.realtime import protocol
from gateway.realtime.protocol import Command, GarbageError, Invalid, Pong, ProtocolError, decode


def only(frame: bytes | str) -> Command:
    (command,) = decode(frame)
    return command


def test_commands_of_a_batch_come_in_their_order() -> None:
    frame = (
        '{"id":1,"connect":{"token":"t"}}\n{"id":2,"subscribe":{"channel":"c"}}\n\n{}\n{"id":3,"ping":{}}\n'
    )
    assert [type(command.request).__name__ for command in decode(frame)] == [
        "Connect",
        "Subscribe",
        "Pong",
        "Ping",
    ]
    assert [command.id for command in decode(frame)] == [1, 2, 0, 3]


def test_a_subscribe_carries_its_position_and_its_wishes() -> None:
    frame = (
        b'{"id":2,"subscribe":{"channel":"conv:c","recover":true,"epoch":"b7f2","offset":118,'
        b'"data":{"maxRate":20,"events":["TEXT_*"]}}}'
    )
    assert only(frame).request == protocol.Subscribe(
        "conv:c", True, "b7f2", 118, protocol.SubscribeData(20, ["TEXT_*"])
    )


def test_what_sdks_add_to_a_command_is_ignored() -> None:
    frame = b'{"id":2,"subscribe":{"channel":"c","token":"","join_leave":true,"delta":"","flag":1}}'
    assert only(frame).request == protocol.Subscribe("c")


def test_the_data_of_a_call_is_not_looked_at() -> None:
    request = only(b'{"id":3,"rpc":{"method":"m","data":{"a":[1,{"b":null}]}}}').request
    assert isinstance(request, protocol.Rpc)
    assert bytes(request.data) == b'{"a":[1,{"b":null}]}'


@pytest.mark.parametrize("name", protocol.UNAVAILABLE)
def test_commands_of_centrifugo_that_we_lack_are_told_so(name: str) -> None:
    command = only(json.dumps({"id": 7, name: {"channel": "c"}}))
    assert command.id == 7
    assert isinstance(command.request, Invalid)
    assert command.request.code == 108


@pytest.mark.parametrize(
    "line",
    [
        '{"id":1}',
        '{"id":1,"nope":{}}',
        '{"id":1,"subscribe":{},"rpc":{}}',
        '{"id":1,"subscribe":{}}',
        '{"id":1,"subscribe":{"channel":""}}',
        '{"id":1,"subscribe":{"channel":"%s"}}' % ("c" * 256),
        '{"id":1,"subscribe":{"channel":"c","offset":-1}}',
        '{"id":1,"subscribe":{"channel":"c","offset":1.5}}',
        '{"id":1,"subscribe":{"channel":"c","offset":"1"}}',
        '{"id":1,"subscribe":{"channel":"c","offset":99999999999999999999}}',
        '{"id":1,"subscribe":{"channel":"c","data":{"maxRate":0}}}',
        '{"id":1,"subscribe":{"channel":"c","data":{"maxrate":5}}}',
        '{"id":1,"subscribe":null}',
        '{"id":1,"connect":{"token":5}}',
        '{"id":1,"history":{"channel":"c","limit":-2}}',
        '{"id":1,"rpc":{}}',
        r'{"id":1,"rpc":{"method":"m","data":{"text":"a\u0000b"}}}',
        r'{"id":1,"rpc":{"method":"m","data":{"text":"\ud800"}}}',
        r'{"id":1,"rpc":{"method":"m","data":{"text":"\udc00\ud800"}}}',
        r'{"id":1,"rpc":{"method":"m","data":{"text":"\\\u0000"}}}',
    ],
)
def test_valid_json_that_is_no_valid_command_is_an_error_of_that_command(line: str) -> None:
    command = only(line)
    assert command.id == 1
    assert isinstance(command.request, Invalid)
    assert command.request.code == 107
    assert command.request.message


@pytest.mark.parametrize("text", [r"\ud83d\ude00", r"\\u0000", r"\\ud800", r"\u00e9", "\U0001f600"])
def test_whole_characters_pass_however_they_are_written(text: str) -> None:
    request = only(f'{{"id":1,"rpc":{{"method":"m","data":"{text}"}}}}').request
    assert isinstance(request, protocol.Rpc)
    assert text.encode() in bytes(request.data)


@pytest.mark.parametrize(
    "frame",
    [
        b"garbage",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"id":1,"ping":{}} {"id":2,"ping":{}}',
        b'{"connect":{}}',
        b'{"id":"1","connect":{}}',
        b'{"id":0,"connect":{}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":1.5,"connect":{}}',
        b'{"id":4294967296,"connect":{}}',
        b'{"id":1,"subscribe":{"channel":"c","offset":NaN}}',
        b'{"id":1,"connect":{"token":"\xff"}}',
        b'{"id":1,"rpc":{"method":"m","data":' + b"[" * 50_000,
        b'{"id":1,"rpc":{"method":"m","data":' + b"[" * 200 + b"]" * 200 + b"}}",
        b"{}\n" * 2000,
        '{"id":1,"rpc":{"method":"\ud800"}}',
    ],
)
def test_what_cannot_be_understood_is_garbage(frame: bytes | str) -> None:
    with pytest.raises(GarbageError):
        decode(frame)


@pytest.mark.parametrize("frame", [b"", b"\n", b" \n\n "])
def test_blank_lines_say_nothing(frame: bytes) -> None:
    assert decode(frame) == []


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_nothing_that_comes_in_raises_anything_else(frame: bytes | str) -> None:
    try:
        for command in decode(frame):
            assert command.id > 0 or command.request == Pong()
    except GarbageError:
        pass


def test_replies_are_as_the_sdks_expect_them() -> None:
    fault = ProtocolError(409, "run already finished")
    assert json.loads(protocol.error(5, fault)) == {
        "id": 5,
        "error": {"code": 409, "message": "run already finished", "temporary": False},
    }
    result = protocol.SubscribeResult(
        recoverable=True,
        positioned=True,
        epoch="b7f2",
        offset=0,
        was_recovering=True,
        recovered=True,
        publications=[msgspec.Raw(b'{"offset":1,"data":{}}')],
    )
    subscribed = {
        "recoverable": True,
        "positioned": True,
        "epoch": "b7f2",
        "offset": 0,
        "was_recovering": True,
        "recovered": True,
        "publications": [{"offset": 1, "data": {}}],
    }
    assert json.loads(protocol.subscribed(2, result)) == {"id": 2, "subscribe": subscribed}
    connect = protocol.ConnectResult(
        client="cl-1", version="wakeful 1.0", ping=25, pong=True, session="s", node="n", subs={"u": result}
    )
    assert json.loads(protocol.connected(1, connect))["connect"] == {
        "client": "cl-1",
        "version": "wakeful 1.0",
        "ping": 25,
        "pong": True,
        "session": "s",
        "node": "n",
        "subs": {"u": subscribed},
    }
    assert json.loads(protocol.unsubscribed(12)) == {"id": 12, "unsubscribe": {}}
    assert json.loads(protocol.pinged(3)) == {"id": 3, "ping": {}}
    assert json.loads(protocol.returned(3, b'{"a":1}')) == {"id": 3, "rpc": {"data": {"a": 1}}}
    assert json.loads(protocol.refreshed(10, client="cl-1", ttl=900)) == {
        "id": 10,
        "refresh": {"client": "cl-1", "version": "wakeful 1.0", "expires": True, "ttl": 900},
    }
    assert json.loads(protocol.refreshed(10, client="cl-1", ttl=None))["refresh"]["expires"] is False
    assert json.loads(protocol.history(11, publications=[b'{"offset":1}'], epoch="e", offset=4)) == {
        "id": 11,
        "history": {"publications": [{"offset": 1}], "epoch": "e", "offset": 4},
    }
    assert json.loads(protocol.publication("conv:c", b'{"offset":1}')) == {
        "push": {"channel": "conv:c", "pub": {"offset": 1}}
    }
    assert json.loads(protocol.unsubscribe("conv:c", code=2500, reason="insufficient state")) == {
        "push": {"channel": "conv:c", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    }
