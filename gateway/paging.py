"""Pages of lists, as requests ask for them. Pure."""

from typing import Protocol

from gateway.decode import Order
from storage.keyset import Page


class Paged(Protocol):
    """What the query of a list says about its page."""

    @property
    def limit(self) -> int | None: ...
    @property
    def after(self) -> str | None: ...
    @property
    def before(self) -> str | None: ...
    @property
    def order(self) -> Order: ...


def page_of(query: Paged, *, usual: int) -> Page:
    """Return the page that a query asks for, of `usual` rows where it does not say how many.

    `after` and `before` follow its order.
    """
    return Page(
        limit=query.limit or usual,
        after=query.after,
        before=query.before,
        descending=query.order == "desc",
    )
