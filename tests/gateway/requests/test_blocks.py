"""What clients may write to memory blocks."""

from datetime import UTC, datetime

import pytest
from msgspec import UNSET

from gateway.auth import Caller
from gateway.errors import InvalidRequestError
from gateway.requests import blocks as requests
from gateway.requests.blocks import CreateBlock, UpdateBlock
from storage.records import Block

AT = datetime(2026, 1, 2, tzinfo=UTC)
CALLER = Caller("test", "org-1", "user-1")


def make(label: str = "human", value: str = "v", **more: object) -> Block:
    request = CreateBlock(label=label, value=value, **more)  # type: ignore[arg-type]
    return requests.new_block(request, block_id="block-1", caller=CALLER, at=AT)


def test_a_block_belongs_to_its_caller() -> None:
    made = make()
    assert (made.organization_id, made.created_by_id, made.last_updated_by_id) == (
        "org-1",
        "user-1",
        "user-1",
    )


def test_usual_labels_get_a_description_unless_one_is_given() -> None:
    assert make("human").description
    assert make("persona").description
    assert make("notes").description is None
    assert make("human", description="mine").description == "mine"


def test_only_template_fields_that_say_something_are_kept() -> None:
    assert make().template == {}
    assert make(is_template=True, template_name="n").template == {"is_template": True, "template_name": "n"}


def test_a_value_may_exceed_the_limit_that_is_shown_but_not_the_bound() -> None:
    assert make(value="x" * 200_000, limit=10).limit_chars == 10
    with pytest.raises(InvalidRequestError) as error:
        make(value="x" * 200_001)
    assert error.value.param == "/value"


def test_an_update_leaves_out_what_is_absent_or_null() -> None:
    changes = requests.changes(UpdateBlock(value="", read_only=False), caller=CALLER)
    assert (changes.value, changes.read_only) == ("", False)
    for name in (
        "label",
        "limit_chars",
        "description",
        "metadata",
        "hidden",
        "tags",
        "project_id",
        "template",
    ):
        assert getattr(changes, name) is UNSET


def test_an_update_can_take_a_template_mark_away() -> None:
    assert requests.changes(UpdateBlock(is_template=False), caller=CALLER).template == {"is_template": False}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (UpdateBlock(label="a b"), "/label"),
        (UpdateBlock(value="x" * 200_001), "/value"),
        (UpdateBlock(description="x" * 10_001), "/description"),
        (UpdateBlock(tags=("",)), "/tags/0"),
    ],
)
def test_an_update_is_checked_like_a_new_block(request_: UpdateBlock, param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        requests.changes(request_, caller=CALLER)
    assert error.value.param == param


def test_tags_keep_their_order_and_lose_repeats() -> None:
    assert requests.tags(("b", "a", "b"), param="/tags") == ("b", "a")
    for bad in (["x"] * 101, ["x" * 257], [""]):
        with pytest.raises(InvalidRequestError):
            requests.tags(bad, param="/tags")
