"""What the scripted provider remembers: its script, its records, its gates, and who waits for them."""

import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bench.replies import Script

if TYPE_CHECKING:
    from bench.serving import Connection


class Record(Struct, kw_only=True):
    """One request as the provider saw it. Times are `time.monotonic_ns()`, None until they happened.

    `ended_ns` is set when the answer was written whole, when the script cut it, or when the client went
    away before that, which is `aborted`. `tokens` counts the pieces written, `wrote_ns` has the time of each.
    """

    number: int
    path: str
    arrived_ns: int
    model: str = ""
    user_text: str = ""
    messages: int = 0
    stream: bool = False
    body: Any = None
    headers: dict[str, str] = {}
    status: int = 200
    refusal: str | None = None
    first_ns: int | None = None
    ended_ns: int | None = None
    tokens: int = 0
    wrote_ns: list[int] = []
    aborted: bool = False


class Listed(Struct, frozen=True):
    """A model in the list."""

    id: str
    context_length: int | None = None


_MODELS = (
    *(Listed(name) for name in ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "text-embedding-3-small")),
    *(Listed(name, 1_000_000) for name in ("fixed-t1-d0-g0", "fixed-t20-d0-g0", "fixed-t100-d500-g20")),
    *(Listed("echo", 128_000), Listed("tiny", 8_192)),
)


class State:
    """What the connections of one provider share."""

    def __init__(self, *, bodies: bool = True) -> None:
        self.bodies = bodies
        self.script = Script()
        self.records: list[Record] = []
        self.models = list(_MODELS)
        self.number = 0
        self.created = int(time.time())
        self.open_gates: set[str] = set()
        self.connections: set[Connection] = set()
        self.watchers: dict[Connection, dict[str, int]] = {}

    def begin(self, path: str, arrived_ns: int) -> Record:
        """Record that a request arrived."""
        self.number += 1
        record = Record(number=self.number, path=path, arrived_ns=arrived_ns)
        self.records.append(record)
        return record

    def end(self, record: Record, *, aborted: bool = False) -> None:
        """Record that an answer is over."""
        record.ended_ns = time.monotonic_ns()
        record.aborted = aborted
        self.look()

    def look(self) -> None:
        """Answer those who wait for records that are there now."""
        if not self.watchers:
            return
        ended = sum(record.ended_ns is not None for record in self.records)
        for watcher, wanted in list(self.watchers.items()):
            if len(self.records) >= wanted["requests"] and ended >= wanted["ended"]:
                del self.watchers[watcher]
                watcher.send_json(200, self.records)
                if not wanted["keep"]:
                    self.records = []

    def open(self, gate: str) -> None:
        """Open a gate, for good."""
        self.open_gates.add(gate)
        for connection in list(self.connections):
            connection.gate_opened(gate)

    def reset(self, asking: "Connection") -> None:
        """Begin anew; answers under way are cut."""
        self.script.clear()
        self.open_gates.clear()
        self.models = list(_MODELS)
        self.number = 0
        for connection in self.connections - {asking}:
            connection.cut_if_busy()
        self.records = []
