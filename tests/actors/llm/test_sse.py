"""Server-sent events from bytes that are cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm import sse
from actors.llm.sse import EventReader, OversizedEventError
from tests.actors.llm.streams import cuts


def read(chunks: list[bytes]) -> tuple[list[tuple[bytes, bytes]], tuple[bytes, bytes] | None]:
    reader = EventReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events, reader.rest()


lines = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data: ",
        b": comment",
        b"event: error",
        b"event:",
        b"id: 1",
        b"x",
        b"",
        b"",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


def by_the_book(text: bytes) -> list[tuple[bytes, bytes]]:
    """Read events as the standard describes it, line by line, from a whole text."""
    events: list[tuple[bytes, bytes]] = []
    name, data = b"", list[bytes]()
    for line in text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]:
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
        elif line.startswith(b"data:"):
            data.append(line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return events


@given(st.lists(st.tuples(lines, ends)), st.lists(st.integers(1, 60)))
def test_events_are_what_the_standard_says_at_any_cut(
    written: list[tuple[bytes, bytes]], at: list[int]
) -> None:
    text = b": begin\n" + b"".join(line + end for line, end in written)
    assert read(cuts(text, at))[0] == by_the_book(text)


def test_whole_events_and_cut_ones_may_alternate() -> None:
    events, rest = read(
        [b"data: 1\n\n", b"data: 2\n\nda", b"ta: 3\n", b"\n", b"data: 4\n\ndata: 5\n\n", b"data: 6"]
    )
    assert [data for _, data in events] == [b" 1", b" 2", b" 3", b" 4", b" 5"]
    assert rest == (b"", b" 6")


def test_the_rest_of_a_cut_line_is_no_event() -> None:
    events, _ = read([b"data: 1\n\n", b": not ", b"data: 2\n\n", b"data: 3\n\n"])
    assert [data for _, data in events] == [b" 1", b" 3"]


def test_a_line_feed_after_another_read_s_carriage_return_ends_no_second_line() -> None:
    events, _ = read([b"data: 1\r", b"\ndata: 2\r\n\r", b"\n"])
    assert [data for _, data in events] == [b" 1\n 2"]
    events, _ = read([b": x\ndata: 1", b"\ndata: 2\r\n\r\n"])
    assert [data for _, data in events] == [b" 1\n 2"]


def test_a_name_counts_for_its_event_alone() -> None:
    events, _ = read([b"event: error\ndata: 1\n\n", b"data: 2\n\n"])
    assert events == [(b"error", b" 1"), (b"", b" 2")]


@pytest.mark.parametrize("start", [b"{", b"\n [", b"\xef\xbb\xbf{"])
def test_a_body_that_begins_like_json_is_kept_whole(start: bytes) -> None:
    reader = EventReader()
    for byte in start + b"\n\ndata: x\n\n":
        assert reader.feed(bytes([byte])) == []
    assert reader.is_json
    assert reader.rest() == (b"", start.strip(b"\n \xef\xbb\xbf") + b"\n\ndata: x\n\n")


def test_memory_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES", 1_000)
    reader = EventReader()
    for _ in range(50):
        assert reader.feed(b"data: " + b"x" * 900) == []
        assert len(reader.feed(b"\n\n")) == 1
        assert len(reader.feed(b"data: 1\ndata: 2\n\n")) == 1
    with pytest.raises(OversizedEventError):
        reader.feed(b"x" * 1_001)
