"""A large memory: shown in pieces of a bounded size, and never wrong, whatever changes meanwhile."""

from collections.abc import Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import Position
from gateway.feeds import frames, json_patch, state_pieces
from gateway.feeds.agent_state import Document
from gateway.feeds.choices import EVERYTHING, NO_THOUGHTS, Choice
from gateway.feeds.frames import Frame
from gateway.feeds.state_pieces import StatePieces
from gateway.feeds.subscriptions import Audience, Subscription
from tests.gateway.state_watching import Viewer

PIECE = 2000
ENVELOPE = 200  # what stands around the operations of a publication

memories = st.dictionaries(
    st.sampled_from([*"abcdefgh", "with/slash", "with~tilde"]),
    st.one_of(st.text(max_size=40), st.integers(0, 2500).map("\0".__mul__)),
)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state_pieces, "PIECE_BYTES", PIECE)
        yield


def document(memory: dict[str, str], status: str = "idle") -> Document:
    blocks = {label: {"id": label, "value": value, "version": 1} for label, value in memory.items()}
    return {"memory": {"blocks": blocks}, "status": status}


class Changing:
    """A state that is published as a feed does it."""

    name, tags = "agent:a:state", b""

    def __init__(self, state: Document) -> None:
        self.document = state
        self.offset = 7
        self.audience = Audience(lambda: None)

    @property
    def position(self) -> Position:
        return Position("e", self.offset)

    def become(self, state: Document) -> None:
        patch = json_patch.difference(self.document, state)
        self.document = state
        for part in state_pieces.parts(patch):
            self.offset += 1
            self.audience.send(frames.of_patch(self.name, self.offset, part))


class Measuring(Viewer):
    """A viewer that notes how large each publication was."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def send(self, frame: Frame) -> None:
        self.take([frame.pub])

    def take(self, publications: Sequence[bytes]) -> None:
        for pub in publications:
            self.sizes.append(len(pub))
            self._take(pub)


def follow(state: Changing, choice: Choice = EVERYTHING) -> tuple[Measuring, StatePieces]:
    viewer = Measuring()
    member = Subscription(viewer, choice)
    state.audience.join(member)
    return viewer, StatePieces(state, member)


@given(st.lists(memories, min_size=1, max_size=6), st.integers(0, 3))
def test_whatever_changes_while_it_is_shown_the_client_has_the_state_in_the_end(
    course: list[dict[str, str]], every: int
) -> None:
    state = Changing(document(course[0]))
    viewer, rest = follow(state)
    steps = iter(course[1:])
    viewer.take(rest.piece())
    count = 0
    while rest.behind:
        assert viewer.offset == 0, "no place to come back to before it is whole"
        if every and count % every == 0 and (memory := next(steps, None)) is not None:
            state.become(document(memory, "running"))
        viewer.take(rest.piece())
        count += 1
    for memory in steps:
        state.become(document(memory))
    assert viewer.document == state.document
    assert viewer.offset == state.offset
    largest = max(
        (len(state_pieces._encode(value)) for memory in course for value in memory.values()), default=0
    )
    assert max(viewer.sizes) <= max(PIECE, largest) + ENVELOPE


def test_a_small_state_is_one_snapshot_at_its_place() -> None:
    state = Changing(document({"human": "Ada"}))
    viewer, rest = follow(state)
    viewer.take(rest.piece())
    assert not rest.behind
    assert (viewer.document, viewer.offset, viewer.taken) == (state.document, 7, 1)


def test_who_may_not_see_memory_is_not_kept_waiting_by_it() -> None:
    state = Changing(document({"human": "a" * 5000, "persona": "b" * 5000}))
    viewer, rest = follow(state, NO_THOUGHTS)
    viewer.take(rest.piece())
    assert not rest.behind
    assert viewer.document == {"status": "idle"}


@given(st.lists(st.text(max_size=3000), max_size=8))
def test_the_parts_of_a_patch_are_the_patch(values: list[str]) -> None:
    patch = [{"op": "add", "path": f"/{place}", "value": value} for place, value in enumerate(values)]
    found = state_pieces.parts(patch)
    assert [one for part in found for one in part] == patch
    assert all(len(part) == 1 or sum(map(len, map(state_pieces._encode, part))) <= PIECE for part in found)
