"""Cuts a body into server-sent events (WHATWG HTML, section 9.2.6), wherever the network cut it."""

from actors.errors import ActorError

EVENT_BYTES = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class OversizedEventError(ActorError):
    """One event is longer than `EVENT_BYTES`; the stream cannot be read on."""

    def __init__(self) -> None:
        super().__init__(f"an event of more than {EVENT_BYTES >> 20} MiB")


class EventReader:
    """Collects bytes and hands out events as (name, data); memory is bounded by `EVENT_BYTES`.

    A body that begins like JSON is no event stream (`is_json`): it is kept whole for `rest`.
    """

    def __init__(self) -> None:
        self.is_json = False
        self._begun = False
        self._clean = False  # between two events, with nothing held: the usual state
        self._after_cr = False
        self._held: list[bytes] = []  # an unfinished line
        self._name = b""
        self._data: list[bytes] = []  # the data lines of an unfinished event
        self._bytes = 0  # what both hold

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Return the events that these bytes complete. Line ends may be LF, CRLF, CR, or mixed.

        Raises:
            OversizedEventError: An event or a line is too long.
        """
        if self._clean and (events := _whole_events(chunk)):
            return events
        self._clean = False
        if not self._begun:
            chunk = self._begin(chunk)
        if b"\r" in chunk or self._after_cr:
            chunk = self._normalise(chunk)
        if self.is_json or b"\n" not in chunk:
            self._hold(chunk)
            return []
        if self._held:
            chunk = self._take_held() + chunk
        *lines, tail = chunk.split(b"\n")
        events: list[tuple[bytes, bytes]] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add(self._data, line[5:])
                continue
            if not line and self._data:
                events.append((self._name, self._take_data()))
            if not line:
                self._name = b""
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
        self._hold(tail)
        self._clean = not (tail or self._data or self._name or self._after_cr)
        return events

    def rest(self) -> tuple[bytes, bytes] | None:
        """Return, at the end of the body, what no blank line completed: an event, or the JSON body."""
        held = self._take_held()
        if self.is_json:
            return b"", held
        if held.startswith(b"data:"):
            self._data.append(held[5:])
        return (self._name, self._take_data()) if self._data else None

    def _begin(self, chunk: bytes) -> bytes:
        """Skip a byte order mark and blank lines; tell JSON by its first byte."""
        start = (self._take_held() + chunk).removeprefix(_BOM).lstrip()
        self._begun = bool(start) and not _BOM.startswith(start)
        self.is_json = start[:1] in (b"{", b"[")
        return start

    def _normalise(self, chunk: bytes) -> bytes:
        """Turn CRLF and CR into LF. A CR at the end counts at once; an LF that follows it does not."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, part: bytes) -> None:
        if part:
            self._add(self._held, part)

    def _add(self, parts: list[bytes], part: bytes) -> None:
        parts.append(part)
        self._bytes += len(part)
        if self._bytes > EVENT_BYTES:
            raise OversizedEventError

    def _take_held(self) -> bytes:
        held = b"".join(self._held)
        self._held.clear()
        self._bytes -= len(held)
        return held

    def _take_data(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._bytes = sum(map(len, self._held))
        return data


def _whole_events(chunk: bytes) -> list[tuple[bytes, bytes]]:
    """Return the events of a chunk that holds nothing but whole one-line events, else nothing."""
    *events, tail = chunk.split(b"\n\n")
    if tail or chunk.count(b"\n") != 2 * len(events) or b"\r" in chunk:
        return []
    whole: list[tuple[bytes, bytes]] = []
    for event in events:
        if not event.startswith(b"data:"):
            return []
        whole.append((b"", event[5:]))
    return whole
