"""Patches: applied to what they were made from, they give what they were made for."""

from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.json_patch import difference

# Names with what JSON Pointer escapes, few enough that documents have some in common.
NAMES = st.sampled_from(["a", "b", "a/b", "~", "~1", "", "ü"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["", "x"]), st.just([1]))
DOCUMENTS = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)
)


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return type(one) is type(other) and one == other


@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_applied_gives_the_other_document(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = difference(before, after)
    assert same(jsonpatch.apply_patch(before, patch), after)


@given(DOCUMENTS)
def test_equal_documents_do_not_differ(document: dict[str, Any]) -> None:
    assert difference(document, document) == []


def test_only_what_differs_is_named() -> None:
    before = {"memory": {"human": {"value": "a", "limit": 9}}, "status": "idle"}
    after = {"memory": {"human": {"value": "b", "limit": 9}}, "status": "idle", "queue": 1}
    assert difference(before, after) == [
        {"op": "replace", "path": "/memory/human/value", "value": "b"},
        {"op": "add", "path": "/queue", "value": 1},
    ]
