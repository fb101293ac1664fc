"""What the client writes, the server's own decoder reads; what the server writes, the client reads."""

import pytest
from msgspec import Raw

from gateway.client import frames as client_frames
from gateway.realtime import protocol
from gateway.realtime.protocol import (
    Connect,
    ConnectResult,
    History,
    ProtocolError,
    Refresh,
    Rpc,
    StreamPosition,
    Subscribe,
    SubscribeData,
    SubscribeResult,
    Unsubscribe,
)

REQUESTS: tuple[client_frames.Request, ...] = (
    Connect(token="t", name="n"),
    Subscribe("conv:c"),
    Subscribe("conv:c", True, "e", 7, SubscribeData(20.0, ["TEXT_*"])),
    Unsubscribe("conv:c"),
    History("conv:c", -1, StreamPosition(3, "e"), True),
    Rpc("agent.send", Raw(b'{"a":1}')),
    Refresh("t"),
)


ACCEPTED = ConnectResult(client="c", version="1", ping=25, pong=True, session="s", node="n")


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_the_server_reads_what_the_client_asks(request_: client_frames.Request) -> None:
    assert protocol.decode(client_frames.command(5, request_)) == [protocol.Command(5, request_)]


def test_the_client_reads_what_the_server_says() -> None:
    pub = b'{"offset":3,"data":{"type":"X"},"tags":{"run":"r"}}'
    frame = b"\n".join(
        (
            protocol.connected(1, ACCEPTED),
            protocol.subscribed(
                2, SubscribeResult(recoverable=True, epoch="e", offset=3, publications=[Raw(pub)])
            ),
            protocol.error(3, ProtocolError(111, "too many requests", True)),
            protocol.publication("conv:c", pub),
            protocol.unsubscribe("conv:c", code=2500, reason="again"),
            protocol.returned(4, b'{"run":"r"}'),
            protocol.history(5, publications=[pub], epoch="e", offset=3),
            protocol.refreshed(6, client="c", ttl=60),
            protocol.PING,
        )
    )
    said = client_frames.messages(frame)
    assert said == client_frames.messages(frame.decode())
    assert [message.id for message in said] == [1, 2, 3, 0, 0, 4, 5, 6, 0]
    assert said[0].connect is not None
    assert said[0].connect.pong
    assert said[1].subscribe is not None
    assert said[1].subscribe.publications[0].tags == {"run": "r"}
    assert said[2].error == client_frames.Failure(111, "too many requests", True)
    assert said[3].push is not None
    assert said[3].push.pub is not None
    assert bytes(said[3].push.pub.data) == b'{"type":"X"}'
    assert said[4].push is not None
    assert said[4].push.unsubscribe == client_frames.Left(2500, "again")
    assert said[5].rpc is not None
    assert bytes(said[5].rpc.data) == b'{"run":"r"}'
    assert said[6].history is not None
    assert said[6].history.offset == 3
    assert said[7].refresh == client_frames.Refreshed(True, 60)
    assert said[8] == client_frames.Message()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8283", "ws://127.0.0.1:8283/v1/ws"),
        ("https://example.com/", "wss://example.com/v1/ws"),
        ("https://example.com/wakeful", "wss://example.com/wakeful/v1/ws"),
        ("ws://host", "ws://host/v1/ws"),
        ("wss://host/connection/websocket?ticket=1", "wss://host/connection/websocket?ticket=1"),
    ],
)
def test_addresses_lead_to_the_websocket(url: str, expected: str) -> None:
    assert client_frames.address(url) == expected


def test_the_codes_that_are_final_are_those_of_the_sdks() -> None:
    final = [code for code in range(1000, 5000) if client_frames.is_terminal(code)]
    assert final == [1009, *range(3500, 4000), *range(4500, 5000)]
