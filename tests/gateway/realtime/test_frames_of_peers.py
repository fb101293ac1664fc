"""What a peer may put on the wire, by the categories of Autobahn's test suite: all of it has a defined end.

The suite itself runs on Python 2 alone. Its cases are numbered as in its list; 8 does not exist, and 12
and 13 are about compression, which is not offered.
"""

import asyncio
import random

import pytest
from starlette.types import Receive, Scope, Send

from gateway.realtime.protocol import FRAME_BYTES
from tests.gateway.raw_websocket import BINARY, CLOSE, PING, PONG, TEXT, Peer, frame, upgraded
from tests.gateway.realtime.test_sockets import Echo
from tests.serving import listening

pytestmark = pytest.mark.timeout(60)

# What came in one piece with the fault may be answered or not: Autobahn calls the second "non-strict".
FAILED_FAST = ([], [b"before"])
GREETING = "Hello-µ@ßöäüàá-UTF-8!!"
CONT = 0


class Echoes:
    """An application that gives back what it hears, on any number of connections."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Echo()(scope, receive, send)


async def talk(sent: list[bytes], *, chop: int | None = None) -> tuple[list[bytes], int, list[bytes]]:
    """Send these bytes and a close; return the messages that came back, the close code, and all pongs."""
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        data = b"".join(sent)
        for start in range(0, len(data), chop or len(data) or 1):
            peer.send(data[start : start + (chop or len(data))])
            if chop:
                await peer.writer.drain()
                await asyncio.sleep(0)
        return await heard(peer)


async def heard(peer: Peer) -> tuple[list[bytes], int, list[bytes]]:
    messages: list[bytes] = []
    pongs: list[bytes] = []
    try:
        while True:
            op, payload = await peer.read()
            if op == CLOSE:
                return messages, int.from_bytes(payload[:2], "big") if payload else 1005, pongs
            (pongs if op == PONG else messages).append(payload)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return messages, 1006, pongs


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(b"" if code is None else code.to_bytes(2, "big") + reason, CLOSE)


# --- 1: framing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [TEXT, BINARY])
@pytest.mark.parametrize("chop", [None, 997])
async def test_messages_of_any_size_and_however_chopped_by_the_network_arrive(
    op: int, chop: int | None
) -> None:
    sizes = [0, 125, 126, 127, 128, 65_535, 65_536]
    if chop:
        sizes = sizes[:6]
    sent = [frame(b"*" * size, op) for size in sizes]
    messages, code, _ = await talk([*sent, close()], chop=chop)
    assert [len(message) for message in messages] == sizes
    assert code == 1000


async def test_a_message_that_comes_byte_by_byte_arrives() -> None:
    messages, code, _ = await talk([frame(GREETING.encode()), close()], chop=1)
    assert (messages, code) == ([GREETING.encode()], 1000)


# --- 2: pings and pongs -----------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
async def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    _, code, pongs = await talk([frame(payload, PING), close()])
    assert (pongs, code) == ([payload], 1000)


async def test_a_ping_of_more_than_125_bytes_is_the_end() -> None:
    assert (await talk([frame(b"\xfe" * 126, PING)]))[1] == 1002


async def test_pongs_that_nobody_asked_for_are_passed_over() -> None:
    messages, code, pongs = await talk(
        [frame(b"", PONG), frame(b"unsolicited", PONG), frame(b"my", PING), close()]
    )
    assert ([m for m in messages if m], pongs, code) == ([], [b"my"], 1000)


@pytest.mark.parametrize("chop", [None, 1])
async def test_ten_pings_are_ten_pongs_in_order(chop: int | None) -> None:
    payloads = [f"payload-{number}".encode() for number in range(10)]
    _, code, pongs = await talk([*[frame(payload, PING) for payload in payloads], close()], chop=chop)
    assert (pongs, code) == (payloads, 1000)


# --- 3: reserved bits; 4: opcodes --------------------------------------------------------------------


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("op", [TEXT, BINARY, PING, PONG, CLOSE])
async def test_a_reserved_bit_is_the_end(rsv: int, op: int) -> None:
    messages, code, _ = await talk([frame(b"before"), frame(b"\x03\xe8", op, rsv=rsv), frame(b"after")])
    assert (messages in FAILED_FAST, code) == (True, 1002)


@pytest.mark.parametrize("op", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"reserved"])
async def test_an_opcode_that_means_nothing_is_the_end(op: int, payload: bytes) -> None:
    messages, code, _ = await talk([frame(b"before"), frame(payload, op), frame(b"", PING)])
    assert (messages in FAILED_FAST, code) == (True, 1002)


# --- 5: fragmentation --------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [PING, PONG, CLOSE])
async def test_a_control_frame_in_fragments_is_the_end(op: int) -> None:
    assert (await talk([frame(b"\x03\xe8", op, fin=0), frame(b"x", CONT)]))[1] == 1002


@pytest.mark.parametrize("chop", [None, 1])
async def test_control_frames_stand_between_fragments(chop: int | None) -> None:
    parts = [frame(b"one", fin=0), frame(b"p1", PING), frame(b"two", CONT, fin=0), frame(b"p2", PING)]
    messages, code, pongs = await talk([*parts, frame(b"three", CONT), close()], chop=chop)
    assert ([m for m in messages if m], pongs, code) == ([b"onetwothree"], [b"p1", b"p2"], 1000)


@pytest.mark.parametrize(
    "sent",
    [
        [frame(b"x", CONT)],
        [frame(b"x", CONT, fin=0)],
        [frame(b"a"), frame(b"x", CONT)],
        [frame(b"a", fin=0), frame(b"b")],
        [frame(b"a", fin=0), frame(b"b", fin=0)],
        [frame(b"a", fin=0), frame(b"b", BINARY)],
        [frame(b"a", fin=0), frame(b"b", CONT), frame(b"c", CONT)],
    ],
    ids=["first", "first-open", "after-whole", "new-inside", "new-open-inside", "other-inside", "after-last"],
)
async def test_a_continuation_of_nothing_or_a_beginning_inside_is_the_end(sent: list[bytes]) -> None:
    assert (await talk([*sent, close()]))[1] == 1002


# --- 6: UTF-8 ----------------------------------------------------------------------------------------

GOOD = [
    b"",
    GREETING.encode(),
    "κόσμε".encode(),
    b"\xf0\x9f\x98\x80",
    b"\x00",
    b"\x7f",
    b"\xc2\x80",
    b"\xdf\xbf",
    b"\xe0\xa0\x80",
    b"\xef\xbf\xbf",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    b"\xf0\x90\x80\x80",
    b"\xf4\x8f\xbf\xbf",
    b"\xef\xbf\xbe",
    b"\xf0\x9f\xbf\xbe",
]
BAD = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80\xbf",
    b"\xc0 \xc1 ",
    b"\xe0 ",
    b"\xf5 ",
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xdf",
    b"\xef\xbf",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
]


def split(text: bytes, at: list[int]) -> list[bytes]:
    """Return a text message in fragments that end at these places."""
    ends = [*at, len(text)]
    starts = [0, *at]
    last = len(ends) - 1
    return [
        frame(text[start:end], TEXT if place == 0 else CONT, fin=int(place == last))
        for place, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


@pytest.mark.parametrize("every", [None, 1], ids=["whole", "a fragment for each byte"])
async def test_utf8_arrives_also_when_a_character_is_cut_in_two(every: int | None) -> None:
    sent = [one for text in GOOD for one in split(text, list(range(1, len(text))) if every else [])]
    messages, code, _ = await talk([*sent, close()])
    assert (messages, code) == (GOOD, 1000)


@pytest.mark.parametrize("whole", [True, False])
async def test_what_is_no_utf8_is_the_end_whole_or_split(whole: bool) -> None:
    async with listening(Echoes()) as url:  # type: ignore[arg-type]
        for text in BAD:
            async with upgraded(url) as peer:
                peer.send(b"".join(split(text, [] if whole else list(range(1, len(text))))))
                assert (await heard(peer))[:2] == ([], 1007), text


async def test_any_bytes_are_taken_in_a_binary_message() -> None:
    messages, code, _ = await talk([*[frame(text, BINARY) for text in BAD], close()])
    assert (messages, code) == (BAD, 1000)


# --- 7: closing --------------------------------------------------------------------------------------


async def test_what_follows_a_close_is_not_heard() -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(frame(b"before") + close() + frame(b"after") + frame(b"", PING) + close())
        assert await heard(peer) == ([b"before"], 1000, [])
        await peer.gone()
    assert app.heard == [b"before"]


async def test_a_close_in_the_middle_of_a_message_is_a_close() -> None:
    messages, code, _ = await talk([frame(b"part", fin=0), close(), frame(b"rest", CONT)])
    assert (messages, code in (1000, 1002)) == ([], True)  # the parser calls the part without an end a fault


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
)
@pytest.mark.parametrize("reason", [b"", b"Hello World!", b"*" * 123])
async def test_a_close_is_answered_with_its_code(code: int, reason: bytes) -> None:
    assert (await talk([close(code, reason)]))[1] == code


async def test_a_close_without_a_code_is_answered() -> None:
    assert (await talk([close(None)]))[1] in (1000, 1005)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535])
@pytest.mark.parametrize("reason", [b"", b"reason"])
async def test_a_close_with_a_code_that_may_not_be_sent_is_a_fault(code: int, reason: bytes) -> None:
    assert (await talk([close(code, reason)]))[1] == 1002


@pytest.mark.parametrize(
    ("payload", "codes"),
    [
        (b"\x03", (1002,)),
        (b"\x03\xe8" + b"*" * 124, (1002,)),
        (b"\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80", (1002, 1007)),
    ],
    ids=["one byte", "126 bytes", "bad utf-8"],
)
async def test_a_close_that_makes_no_sense_is_a_fault(payload: bytes, codes: tuple[int, ...]) -> None:
    assert (await talk([frame(payload, CLOSE)]))[1] in codes


# --- 9: limits; 10: fragments of any length ------------------------------------------------------------


@pytest.mark.parametrize("size", [FRAME_BYTES + 1, 1 << 20, 1 << 40, (1 << 63) - 1])
async def test_a_frame_that_announces_too_much_is_the_end_before_it_comes(size: int) -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(b"\x81\xff" + size.to_bytes(8, "big") + bytes(4))
        assert (await heard(peer))[1] == 1009
    assert app.heard == []


async def test_a_length_with_its_highest_bit_set_is_the_end() -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(b"\x81\xff" + (1 << 63).to_bytes(8, "big") + bytes(4))
        assert (await heard(peer))[1] in (1002, 1009)


@pytest.mark.parametrize("piece", [64, 256, 1024, 4096, 65_536])
@pytest.mark.parametrize("op", [TEXT, BINARY])
async def test_a_message_in_fragments_of_any_length_is_one(piece: int, op: int) -> None:
    whole = b"*" * FRAME_BYTES
    parts = [whole[at : at + piece] for at in range(0, len(whole), piece)]
    last = len(parts) - 1
    sent = [
        frame(part, op if place == 0 else CONT, fin=int(place == last)) for place, part in enumerate(parts)
    ]
    messages, code, _ = await talk([*sent, close()])
    assert (messages == [whole], code) == (True, 1000)


async def test_a_frame_without_a_mask_is_the_end() -> None:
    app = Echo()
    async with listening(app) as url, upgraded(url) as peer:  # type: ignore[arg-type]
        peer.send(b"\x81\x05Hello")
        assert (await heard(peer))[:2] == ([], 1002)


async def test_noise_ends_every_connection_and_none_of_the_others() -> None:
    """Random bytes after the upgrade: each connection ends, a good one beside them goes on."""
    chance = random.Random(4)
    async with listening(Echoes()) as url, upgraded(url) as good:  # type: ignore[arg-type]
        for _ in range(30):
            async with upgraded(url) as peer:
                peer.send(chance.randbytes(chance.randint(1, 400)) + close())
                peer.writer.write_eof()
                await heard(peer)
        good.send(frame(b"ping", PING))
        assert (await good.read())[0] == PONG
