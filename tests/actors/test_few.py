import sys

from hypothesis import given
from hypothesis import strategies as st

from actors.few import Few

acts = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5)),
        st.tuples(st.just("discard"), st.integers(0, 5)),
        st.tuples(st.just("discard_all"), st.frozensets(st.integers(0, 5))),
    )
)


@given(acts)
def test_it_holds_what_a_set_would_hold(does: list[tuple[str, int | frozenset[int]]]) -> None:
    few, whole = Few[int](), set[int]()
    for act, given_ in does:
        getattr(few, act)(given_)
        getattr(whole, {"discard_all": "difference_update"}.get(act, act))(given_)
        assert sorted(few) == sorted(whole)
        assert bool(few) == bool(whole)


def test_empty_it_costs_a_fraction_of_a_set_also_after_use() -> None:
    few = Few[int]()
    few.add(1)
    few.discard(1)
    assert sys.getsizeof(few) <= sys.getsizeof(set[int]()) / 3
