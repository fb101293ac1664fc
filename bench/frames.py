"""Websocket frames as a client writes and reads them, as cheaply as Python can (RFC 6455, section 5.2)."""

from collections.abc import Iterator

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
MASK = b"\0\0\0\0"  # a client must mask; a mask of zeros leaves the payload as it is

Message = tuple[int, bytes]  # opcode and payload


def handshake(host: str, port: int, path: str) -> bytes:
    """The request that asks for the upgrade. It offers no extension, so nothing comes compressed."""
    return (
        f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole message of a client."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b%b" % (0x80 | opcode, 0x80 | size, MASK, payload)
    if size < 65536:
        return b"%c\xfe%b%b%b" % (0x80 | opcode, size.to_bytes(2, "big"), MASK, payload)
    return b"%c\xff%b%b%b" % (0x80 | opcode, size.to_bytes(8, "big"), MASK, payload)


def served(payload: bytes) -> bytes:
    """One whole text message of a server, of less than 64 KiB."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)


class Reader:
    """Cuts what comes off a socket into messages. The server sends them unfragmented and unmasked."""

    __slots__ = ("_have", "_rest", "_want")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # the beginning of a message that is not whole
        self._have = 0
        self._want = 0  # bytes until which it cannot be whole: so long nothing is joined, which would copy it

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole now."""
        if self._rest:
            self._rest.append(data)
            self._have += len(data)
            if self._have < self._want:
                return
            data = b"".join(self._rest)
            self._rest = []
        at, end, want = 0, len(data), 2
        while end - at >= 2:
            start, size = _extent(data, at)
            if start + size > end:
                want = start + size - at
                break
            yield data[at] & 0x0F, data[start : start + size]
            at, want = start + size, 2
        if at < end:
            self._rest, self._have, self._want = [data[at:]], end - at, want


def _extent(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame begins and its size; beyond the end where the header is cut."""
    size = data[at + 1] & 0x7F
    if size < 126:
        return at + 2, size
    length = 2 if size == 126 else 8
    if len(data) < at + 2 + length:
        return len(data), 1
    return at + 2 + length, int.from_bytes(data[at + 2 : at + 2 + length], "big")
