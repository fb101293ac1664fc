"""The scripted provider's connections: requests in, scripted answers out, everything recorded."""

import asyncio
import time
from typing import Any, cast
from urllib.parse import parse_qs

import httptools
import msgspec
from msgspec import UNSET, Raw, Struct

from bench import framing, responses, wire
from bench.recording import Listed, Record, State
from bench.replies import STAMP, Reply

KEPT_HEADERS = frozenset(
    {b"authorization", b"api-key", b"content-type", b"user-agent", b"openai-organization", b"idempotency-key"}
)
WRONG_KEY = "Bearer sk-wrong"  # answered with 401


class _Gate(Struct, frozen=True):
    """The body of `open`."""

    gate: str


class Answer(Struct, frozen=True):
    """An answer as it goes over the socket: paced pieces and what closes it. A stream has a head."""

    pieces: list[bytes]
    closing: bytes = b""
    head: bytes | None = None


class Connection(asyncio.Protocol):
    """One client connection: reads a request, writes its answer, piece by piece, then reads the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop, state: State) -> None:
        self._loop = loop
        self._state = state
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._record: Record | None = None
        self._reply = Reply()
        self._answer: Answer | None = None
        self._next = 0
        self._stop: int | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._gated = False
        self._blocked = False

    # what the transport and the parser call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._state.connections.discard(self)
        self._state.watchers.pop(self, None)
        self._stop_timer()
        if self._record is not None:
            self._finish(aborted=True)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.close()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._record is not None and self._timer is None and not self._gated and self._answer:
            self._write()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in KEPT_HEADERS:
            self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        arrived_ns = time.monotonic_ns()
        path, _, query = self._url.decode("latin-1").partition("?")
        body, headers = b"".join(self._body), self._headers
        self._url, self._headers, self._body = b"", {}, []
        if path.startswith("/control/"):
            self._control(path, query, body)
        elif path.endswith("/models"):
            self.send_json(200, {"object": "list", "data": [_shown(m) for m in self._state.models]})
        elif path.endswith(("/chat/completions", "/responses", "/embeddings")):
            self._record = self._state.begin(path, arrived_ns)
            self._respond(path, headers, body)
            self._state.look()
        else:
            self._send_error(404, f"Unknown request URL: {path}")

    # answers

    def _respond(self, path: str, headers: dict[str, str], body: bytes) -> None:
        record = cast("Record", self._record)
        record.headers = headers
        if self._state.bodies:
            record.body = Raw(body)
        try:
            if headers.get("authorization") == WRONG_KEY:
                self._send_error(401, "Incorrect API key provided: sk-wrong.", code="invalid_api_key")
            elif path.endswith("/embeddings"):
                self._embed(record, msgspec.json.decode(body, type=wire.Embed))
            elif path.endswith("/responses"):
                asked = responses.read_request(body)
                self._complete(record, asked, responses.refusal(asked.messages))
            else:
                asked = wire.read_request(body)
                self._complete(record, asked, wire.refusal(asked.messages, body))
        except msgspec.MsgspecError as error:
            record.body = None
            self._send_error(400, f"We could not parse the JSON body of your request: {error}")

    def _complete(self, record: Record, asked: wire.Asked, refusal: str | None) -> None:
        record.model, record.messages, record.stream = asked.model, len(asked.messages), bool(asked.stream)
        record.user_text = wire.last_user_text(asked.messages)
        record.refusal = refusal
        if record.refusal is not None:
            self._send_error(400, record.refusal)
            return
        reply = self._state.script.take(asked.model, record.user_text)
        if asked.response_format is not None and reply.status == 200 and not reply.echo:
            reply = wire.in_schema(reply, asked)
        self._reply = reply
        record.status = reply.status
        delay = reply.delay_ms / 1000
        if not (asked.stream or reply.raw is not None):
            delay += reply.gap_ms / 1000 * len(wire.words(wire.answer_text(reply, asked, record.user_text)))
        self._begin(reply, self._written(reply, asked, record), delay)

    def _embed(self, record: Record, asked: wire.Embed) -> None:
        record.model = asked.model
        reply = self._state.script.take_embeddings(asked.model)
        if reply is None:
            self._send(200, wire.embeddings(asked))
            return
        self._reply = reply
        record.status = reply.status
        self._begin(reply, Answer(self._embedded(reply, asked)), reply.delay_ms / 1000)

    def _embedded(self, reply: Reply, asked: wire.Embed) -> list[bytes]:
        if (raw := framing.raw_answer(reply)) is not None:
            return [raw]
        if reply.status != 200 or reply.body is not UNSET:
            body = framing.error_body(reply.status) if reply.body is UNSET else reply.body
            return [framing.response(reply.status, msgspec.json.encode(body), reply.headers)]
        whole = {"empty_200": b"", "garbage": wire.GARBAGE}.get(str(reply.fault), wire.embeddings(asked))
        data = framing.response(200, whole, reply.headers)
        return [data[: len(data) // 2], data[len(data) // 2 :]]

    def _begin(self, reply: Reply, answer: Answer, delay: float) -> None:
        """Write an answer after a delay."""
        self._answer, self._next = answer, 0
        self._stop = _stop(reply, len(answer.pieces))
        self._due = time.monotonic() + delay
        if reply.fault == "hang":
            return
        if delay:
            self._timer = self._loop.call_later(delay, self._write)
        else:
            self._write()

    def _written(self, reply: Reply, asked: wire.Asked, record: Record) -> Answer:
        """Write an answer down."""
        if (raw := framing.raw_answer(reply)) is not None:
            return Answer([raw])
        if reply.status != 200 or (reply.body is not UNSET and reply.fault != "error_event"):
            body = framing.error_body(reply.status) if reply.body is UNSET else reply.body
            return Answer([framing.response(reply.status, msgspec.json.encode(body), reply.headers)])
        if reply.fault == "empty_200":
            return Answer([framing.response(200, b"", reply.headers)])
        spelling = responses if record.path.endswith("/responses") else wire
        numbers = {"number": record.number, "created": self._state.created}
        if not asked.stream:
            if reply.fault == "garbage":
                return Answer([framing.response(200, wire.GARBAGE, reply.headers)])
            whole = spelling.completion(reply, asked, record.user_text, **numbers)
            data = framing.response(200, whole, reply.headers)
            return Answer([data[: len(data) // 2], data[len(data) // 2 :]])
        head = framing.stream_head(reply)
        if reply.fault == "garbage":
            return Answer([wire.GARBAGE], b"", head)
        if reply.sse is not None:
            return Answer([reply.sse.encode()], b"", head)
        plan = spelling.plan(reply, asked, record.user_text, **numbers)
        return Answer(plan.pieces, plan.closing, head)

    def _write(self) -> None:
        """Write what is due: one piece, or all of them where there is no gap."""
        self._timer = None
        if self._blocked:
            return
        record, reply, answer = cast("Record", self._record), self._reply, cast("Answer", self._answer)
        end = len(answer.pieces) if self._stop is None else self._stop
        if reply.gate is not None and reply.gate not in self._state.open_gates:
            end = min(end, max(reply.gate_after, self._next))
            self._gated = self._next == end
            if self._gated:
                return
        gap = reply.gap_ms / 1000 if record.stream else 0.0
        upto = end if not gap else min(end, self._next + 1)
        if upto > self._next:
            self._out(record, answer, upto)
        if self._next < end and gap:
            self._due += gap
            self._timer = self._loop.call_later(max(0.0, self._due - time.monotonic()), self._write)
        elif self._next < len(answer.pieces) and self._stop is None:
            self._write()  # a gate, or none
        else:
            self._close(reply)

    def _out(self, record: Record, answer: Answer, upto: int) -> None:
        """Write pieces: one write, one chunk."""
        part = answer.pieces[self._next : upto]
        last = upto == len(answer.pieces) and self._stop is None
        if last:
            part.append(answer.closing)
        data = b"".join(part)
        if self._reply.stamped:
            data = data.replace(STAMP.encode(), b"%019d" % time.monotonic_ns())
        if answer.head is not None:
            data = (answer.head if self._next == 0 else b"") + framing.chunk(data)
            if last:
                data += framing.LAST_CHUNK
        now = time.monotonic_ns()
        if record.first_ns is None:
            record.first_ns = now
        record.tokens += upto - self._next
        record.wrote_ns += [now] * (upto - self._next)
        self._next = upto
        self._transport.write(data)

    def _close(self, reply: Reply) -> None:
        match reply.fault:
            case "hang_after":
                if self._next == 0:
                    self._transport.write(framing.stream_head(reply))
            case "cut_after" | "half_headers":
                self._finish()
                self._transport.close()
            case "rst_after":
                self._finish()
                framing.reset(self._transport)
            case _:
                self._finish()
                if framing.raw_answer(reply) is not None:
                    self._transport.close()

    def _finish(self, *, aborted: bool = False) -> None:
        record, self._record = cast("Record", self._record), None
        self._answer, self._gated = None, False
        self._state.end(record, aborted=aborted)

    def gate_opened(self, gate: str) -> None:
        """Go on if this answer waits at that gate."""
        if self._gated and self._reply.gate == gate:
            self._gated = False
            self._write()

    def cut_if_busy(self) -> None:
        """Close the connection in the middle of its answer, if there is one."""
        if self._record is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # control, and plain answers

    def _control(self, path: str, query: str, body: bytes) -> None:
        state = self._state
        try:
            match path:
                case "/control/log":
                    asked = {name: int(values[-1]) for name, values in parse_qs(query).items()}
                    state.watchers[self] = {"requests": 0, "ended": 0, "keep": 0} | asked
                    state.look()
                    return
                case "/control/script":
                    state.script.extend(msgspec.json.decode(body, type=list[Reply]))
                case "/control/open":
                    state.open(msgspec.json.decode(body, type=_Gate).gate)
                case "/control/models":
                    state.models += msgspec.json.decode(body, type=list[Listed])
                case "/control/reset":
                    state.reset(self)
                case _:
                    self._send_error(404, f"Unknown control: {path}")
                    return
        except (msgspec.MsgspecError, ValueError) as error:
            self._send_error(400, str(error))
            return
        self._send(204, b"")

    def send_json(self, status: int, value: object) -> None:
        """Write a whole JSON answer."""
        self._send(status, msgspec.json.encode(value))

    def _send_error(self, status: int, message: str, *, code: str | None = None) -> None:
        if self._record is not None:
            self._record.status = status
        kind = "authentication_error" if status == 401 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        self.send_json(status, {"error": error})

    def _send(self, status: int, body: bytes) -> None:
        if self._record is not None:
            self._record.first_ns = time.monotonic_ns()
        self._transport.write(framing.response(status, body, {}))
        if self._record is not None:
            self._finish()


def _stop(reply: Reply, pieces: int) -> int | None:
    """At which piece the script ends the answer, or None."""
    if reply.fault in ("cut_after", "rst_after", "hang_after"):
        return min(reply.tokens, pieces)
    return None


def _shown(model: Listed) -> dict[str, Any]:
    shown = {"id": model.id, "object": "model", "created": 1_700_000_000, "owned_by": "bench"}
    return shown if model.context_length is None else shown | {"context_length": model.context_length}
