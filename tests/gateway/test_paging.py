"""Pages of lists, as queries ask for them."""

from msgspec import Struct

from gateway.decode import Order
from gateway.paging import page_of
from storage.keyset import Page


class Query(Struct, frozen=True):
    limit: int | None = None
    after: str | None = None
    before: str | None = None
    order: Order = "desc"


def test_a_page_is_of_the_usual_size_where_the_query_does_not_say() -> None:
    assert page_of(Query(), usual=7) == Page(limit=7, descending=True)
    assert page_of(Query(limit=3), usual=7) == Page(limit=3, descending=True)


def test_cursors_and_order_are_those_of_the_query() -> None:
    asked = Query(after="a", before="b", order="asc")
    assert page_of(asked, usual=7) == Page(limit=7, after="a", before="b", descending=False)
