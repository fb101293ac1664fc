from msgspec.structs import replace

from actors import holding
from actors.events import BlockChanged, BlockCreated, BlockDetached
from storage.records import Block
from tests.actors.memories import block, held, newborn


def newer(one: Block, **changes: object) -> Block:
    return replace(one, version=one.version + 1, **changes)


def values(blocks: dict[str, Block]) -> dict[str, str]:
    return {label: b.value for label, b in blocks.items()}


def test_a_step_s_blocks_take_their_places() -> None:
    blocks = held(human="a", old="b", notes="c")
    after = holding.after_step(
        blocks,
        written=[newer(blocks["human"], label="person", value="x")],
        created=[newborn("old")],
        detached=[blocks["old"]],
    )
    assert values(after) == {"person": "x", "notes": "c", "old": ""}
    assert list(after) == ["person", "notes", "old"]
    assert values(blocks) == {"human": "a", "old": "b", "notes": "c"}


def test_labels_that_a_step_swaps_lose_no_block() -> None:
    blocks = held(a="was a", b="was b")
    swapped = [newer(blocks["a"], label="b"), newer(blocks["b"], label="a")]
    after = holding.after_step(blocks, written=swapped, created=[], detached=[])
    assert values(after) == {"b": "was a", "a": "was b"}


def test_a_newer_version_that_was_heard_of_meanwhile_stays() -> None:
    blocks = held(human="newest")
    older = replace(blocks["human"], version=3, value="ours")
    assert values(holding.after_step(blocks, written=[older], created=[], detached=[])) == {"human": "newest"}
    assert holding.after_write(blocks, older) is None
    assert values(holding.after_read(blocks, [older])) == {"human": "newest"}


def test_a_write_of_somebody_else_s_block_changes_nothing() -> None:
    assert holding.after_write(held(human="a"), newer(block(label="other"))) is None


def test_a_relabelled_block_keeps_its_place() -> None:
    blocks = held(a="1", b="2", c="3")
    after = holding.after_write(blocks, newer(blocks["b"], label="z"))
    assert after is not None
    assert list(after) == ["a", "z", "c"]


def test_labels_that_are_swapped_one_write_after_the_other_lose_no_block() -> None:
    blocks = held(a="was a", b="was b")
    between = holding.after_write(blocks, newer(blocks["a"], label="b"))
    assert between is not None
    assert sorted(b.value for b in between.values()) == ["was a", "was b"]
    after = holding.after_write(between, newer(blocks["b"], label="a"))
    assert after is not None
    assert values(after) == {"b": "was a", "a": "was b"}


def test_what_was_read_is_held_in_its_order() -> None:
    rows = [newer(block("x", label="b")), block("y", label="new")]
    assert values(holding.after_read(held(a="gone", b="old"), rows)) == {"b": "x", "new": "y"}


def test_what_somebody_outside_changed_is_told_with_what_it_was_before() -> None:
    before = held(human="old", gone="x", same="y")
    written = newer(before["human"], value="new")
    after = {"human": written, "same": before["same"], "fresh": block("z", label="fresh")}
    gone, changed, created = holding.changes(before, after)
    assert gone == BlockDetached(None, "block-gone", "gone", 100_000)
    assert changed == BlockChanged(None, "block-human", "human", "new", written.version, 100_000, "old")
    assert created == BlockCreated(None, "block-fresh", "fresh", "z", None, 7, 100_000)
    assert holding.changes(after, after) == []
