"""Publications as they go out: encoded once, shared by every subscriber, merged without loss.

A publication is `{"offset":…,"data":…,"tags":{…}}`; its data is the AG-UI image of one event, or a snapshot
or patch of state. Only adjacent fragments of one stream are ever merged, so no order is lost.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actors.events import Delta, Event, ReasoningDelta, TextDelta, ToolCallDelta
from actors.frozen import DELTAS
from gateway.agui import images as agui
from gateway.feeds import shown_events
from gateway.feeds.json_patch import Operation

MERGED_CHARS = 64 * 1024  # of one publication that is made of several; more are sent as several
MAX_SPEECHES = 64  # kept encoded: one for each message that is being said


_encode = msgspec.json.Encoder().encode


class Frame(Struct, gc=False):
    """One publication, encoded once per channel and shared by all its subscribers. Nobody changes it.

    `wire` is the whole message as a websocket frame; in it the publication begins at `begins`. `event` is
    what it shows, None for state; `kind` its AG-UI type, which filters match. Of frames with one `key` only
    the last counts. A `thought` needs its own scope. `thread` and `tags` are kept for encoding it anew when
    it is merged, and so are the operations of a `patch`.
    """

    channel: str
    offset: int
    wire: bytes
    begins: int
    event: Event | None
    kind: str
    key: str | None = None
    thought: bool = False
    thread: str = ""
    tags: bytes = b""
    patch: tuple[Operation, ...] | None = None

    @property
    def push(self) -> bytes:
        """The message without its websocket frame."""
        return self.wire[_SIZES.get(self.wire[1], 2) :]

    @property
    def pub(self) -> bytes:
        """The publication alone."""
        return self.wire[self.begins : -2]


_SIZES = {0x7E: 4, 0x7F: 10}  # of what stands before a payload, by the second byte; 2 before a short one


def framed(payload: bytes) -> bytes:
    """Return an unmasked, unfragmented text frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if 126 <= size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def head_of(channel: str) -> bytes:
    """Return how every push of a channel begins; `publication` and two braces follow."""
    return b'{"push":{"channel":%b,"pub":' % _encode(channel)


def tags_of(*, run: str | None = None, conv: str | None = None, agent: str | None = None) -> bytes:
    """Return the tags of a publication as JSON, without those that are None."""
    tags = {"run": run, "conv": conv, "agent": agent}
    return _encode({name: value for name, value in tags.items() if value is not None})


def publication(offset: int, data: bytes, tags: bytes) -> bytes:
    """Return one publication as JSON. `data` and `tags` are JSON already; no tags are left away."""
    if not tags:
        return b'{"offset":%d,"data":%b}' % (offset, data)
    return b'{"offset":%d,"data":%b,"tags":%b}' % (offset, data, tags)


def of_event(channel: str, head: bytes, offset: int, event: Event, *, thread: str, tags: bytes) -> Frame:
    """Return the frame of an event of conversation `thread`; `head` is `head_of(channel)`."""
    pub = publication(offset, shown_events.image(event, thread), tags)
    wire, begins = _placed(head, pub)
    return Frame(
        channel, offset, wire, begins, event, agui.kind(event), None, agui.is_thought(event), thread, tags
    )


def _placed(head: bytes, pub: bytes) -> tuple[bytes, int]:
    """Return the websocket frame of a publication, and where in it the publication begins."""
    wire = framed(b"%b%b}}" % (head, pub))
    return wire, len(wire) - len(pub) - 2


class _Speech(Struct, frozen=True, gc=False):
    """What the frames of one message's text have in common."""

    run_id: str
    thread: str
    tags: bytes
    before: bytes  # between the offset and the text
    after: bytes  # behind the text


class Voice:
    """Makes the frames of one channel. What the fragments of a text have in common is encoded once.

    `tags` returns the tags of what a run says in a conversation, as JSON.
    """

    __slots__ = ("_begins", "_channel", "_head", "_speeches", "_tags")

    def __init__(self, channel: str, tags: Callable[[str | None, str], bytes]) -> None:
        self._channel = channel
        self._head = head_of(channel)
        self._begins = b'%b{"offset":' % self._head
        self._tags = tags
        self._speeches: dict[str, _Speech] = {}

    def frame(self, offset: int, event: Event, thread: str) -> Frame:
        """Return the frame of an event of conversation `thread`, as `of_event` makes it."""
        if type(event) is not TextDelta:
            tags = self._tags(event.run_id, thread)
            return of_event(self._channel, self._head, offset, event, thread=thread, tags=tags)
        speech = self._speeches.get(event.message_id)  # the path of every token
        if speech is None or speech.run_id != event.run_id or speech.thread != thread:
            speech = self._speech(event, thread)
        wire = framed(
            b"%b%d%b%b%b" % (self._begins, offset, speech.before, _encode(event.text), speech.after)
        )
        begins = _SIZES.get(wire[1], 2) + len(self._head)
        return Frame(
            self._channel,
            offset,
            wire,
            begins,
            event,
            "TEXT_MESSAGE_CONTENT",
            None,
            False,
            thread,
            speech.tags,
        )

    def _speech(self, event: TextDelta, thread: str) -> _Speech:
        if len(self._speeches) >= MAX_SPEECHES:
            self._speeches.clear()
        tags = self._tags(event.run_id, thread)
        before = b',"data":' + agui.text_head(event.message_id)
        after = b'},"tags":%b}}}' % tags if tags else b"}}}}"
        speech = self._speeches[event.message_id] = _Speech(event.run_id, thread, tags, before, after)
        return speech


def of_snapshot(
    channel: str,
    offset: int,
    state: object,
    *,
    tags: bytes = b"",
    thought: bool = False,
    told: object = None,
) -> Frame:
    """Return the frame that says all of a channel's state. `told` goes into its metadata."""
    event: dict[str, object] = {"type": "STATE_SNAPSHOT", "snapshot": state}
    if told is not None:
        event["metadata"] = {"wakeful": told}
    wire, begins = _placed(head_of(channel), publication(offset, _encode(event), tags))
    return Frame(channel, offset, wire, begins, None, "STATE_SNAPSHOT", channel, thought, "", tags)


def of_patch(
    channel: str, offset: int, patch: Sequence[Operation], *, tags: bytes = b"", thought: bool = False
) -> Frame:
    """Return the frame of a change of state (RFC 6902)."""
    pub = publication(offset, _encode({"type": "STATE_DELTA", "delta": patch}), tags)
    wire, begins = _placed(head_of(channel), pub)
    return Frame(
        channel, offset, wire, begins, None, "STATE_DELTA", None, thought, "", tags, patch=tuple(patch)
    )


# --- merging -------------------------------------------------------------------------------------


def merge(first: Frame, second: Frame) -> Frame | None:
    """Return one frame that says what two adjacent ones say, with the offset of the second; else None.

    Fragments of one text, thought or call are joined; patches of one state are applied one after the
    other; a snapshot takes the place of one before it.
    """
    if first.channel != second.channel:
        return None
    if _continues(first.event, second.event):
        return _joined([first, second]) if _chars(first) + _chars(second) <= MERGED_CHARS else None
    if first.patch is not None and second.patch is not None:
        patch = condensed([*first.patch, *second.patch])
        thought = first.thought or second.thought
        return of_patch(second.channel, second.offset, patch, tags=second.tags, thought=thought)
    if second.key is not None and (first.key == second.key or (first.patch is not None)):
        return second
    return None


def merged(frames: Iterable[Frame]) -> list[Frame]:
    """Return frames of one channel with adjacent fragments of one stream joined; each is encoded once."""
    out: list[Frame] = []
    stream: list[Frame] = []
    chars = 0
    before: Event | None = None
    for frame in frames:
        event = frame.event
        more = len(event.text) if isinstance(event, DELTAS) else 0
        chars += more
        if stream and not (chars <= MERGED_CHARS and _continues(before, event)):
            out.append(_joined(stream))
            stream, chars = [], more
        stream.append(frame)
        before = event
    if stream:
        out.append(_joined(stream))
    return out


def _chars(frame: Frame) -> int:
    return len(frame.event.text) if isinstance(frame.event, DELTAS) else 0


def condensed(patch: Sequence[Operation]) -> list[Operation]:
    """Return a patch without additions of whole members that the next operation on that member replaces.

    Only operations on the same path are compared, and only where none in between reaches into it. O(n): the
    patches of a fleet have thousands of operations.
    """
    out: list[Operation] = []
    last: dict[str, int] = {}  # where the pending addition of each path stands in `out`
    below: dict[str, set[str]] = {}  # the paths of `last` by what they are in
    for operation in patch:
        path = str(operation["path"])
        before = last.get(path)
        adds = operation["op"] in ("add", "replace")
        if before is not None and adds:
            out[before] = {**out[before], "value": operation["value"]}
            continue
        # What reaches into, or away, a path ends the time in which its addition may still be rewritten.
        around = _around(path)
        for known in (path, *around, *below.pop(path, ())):
            last.pop(known, None)
        if adds:
            last[path] = len(out)
            for outer in around:
                below.setdefault(outer, set()).add(path)
        out.append(operation)
    return out


def _around(path: str) -> list[str]:
    """Return the paths of what a path is in, the whole document's last."""
    found: list[str] = []
    while path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found


def _continues(first: Event | None, second: Event | None) -> bool:
    """Say whether two events are fragments of one stream: they differ in their text and in nothing else."""
    if isinstance(first, TextDelta):  # the way of most
        return (
            isinstance(second, TextDelta)
            and first.message_id == second.message_id
            and first.run_id == second.run_id
        )
    if isinstance(first, ReasoningDelta) and isinstance(second, ReasoningDelta):
        ours = first.message_id, first.run_id, first.source
        return ours == (second.message_id, second.run_id, second.source)
    if isinstance(first, ToolCallDelta) and isinstance(second, ToolCallDelta):
        ours = first.call_id, first.message_id, first.run_id
        return ours == (second.call_id, second.message_id, second.run_id)
    return False


def _joined(frames: Sequence[Frame]) -> Frame:
    """Return the one frame of fragments that continue each other."""
    if len(frames) == 1:
        return frames[0]
    last = frames[-1]
    event = joined([frame.event for frame in frames if isinstance(frame.event, DELTAS)])
    return of_event(
        last.channel, head_of(last.channel), last.offset, event, thread=last.thread, tags=last.tags
    )


def joined(deltas: Sequence[Delta]) -> Delta:
    """Return fragments of one stream as one."""
    return replace(deltas[-1], text="".join([delta.text for delta in deltas]))


def conflated(events: Iterable[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """Return a log with adjacent fragments of one stream joined, each at the offset of its last one."""
    out: list[tuple[int, Event]] = []
    stream: list[Delta] = []
    last = chars = 0
    for offset, event in events:
        more = len(event.text) if isinstance(event, DELTAS) else 0
        chars += more
        if stream and not (chars <= MERGED_CHARS and _continues(stream[-1], event)):
            out.append((last, joined(stream)))
            stream, chars = [], more
        if isinstance(event, DELTAS):
            stream.append(event)
            last = offset
        else:
            out.append((offset, event))
    if stream:
        out.append((last, joined(stream)))
    return out
