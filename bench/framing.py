"""HTTP/1.1 as the scripted provider writes it: whole responses, chunks, and bytes that are neither."""

import asyncio
import socket
import struct
from base64 import b64decode
from http import HTTPStatus
from typing import Any, cast

from bench.replies import Reply

LAST_CHUNK = b"0\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST
_PHRASES = {int(status): status.phrase.encode() for status in HTTPStatus}


def raw_answer(reply: Reply) -> bytes | None:
    """The whole answer of a reply that spells its own HTTP, or None."""
    if reply.fault == "half_headers":
        return b"HTTP/1.1 200 OK\r\nContent-Ty"
    if reply.raw_base64 is not None:
        return b64decode(reply.raw_base64)
    return None if reply.raw is None else reply.raw.encode()


def stream_head(reply: Reply) -> bytes:
    """The head of an event stream."""
    return _STREAM_HEAD[:-2] + _header_lines(reply.headers) + b"\r\n" if reply.headers else _STREAM_HEAD


def _header_lines(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole JSON response."""
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status,
        _PHRASES.get(status, b"Scripted"),
        len(body),
        _header_lines(headers),
        body,
    )


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_body(status: int) -> dict[str, Any]:
    """The error object that goes with a scripted status."""
    kind = {429: "rate_limit_exceeded", 401: "invalid_api_key"}.get(status, "server_error")
    return {"error": {"message": f"Scripted status {status}", "type": kind, "param": None, "code": kind}}


def reset(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN, after what was written has left."""
    sock = cast("socket.socket", transport.get_extra_info("socket"))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.close()
