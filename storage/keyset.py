"""Pages of lists by key: a select of constant fragments, continued after or before a row already seen."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from storage.errors import NotFoundError
from storage.pool import Conn, Row


class Page(Struct, frozen=True, kw_only=True):
    """Which rows of a list: at most `limit`, those after or before the row with the named id.

    `after` and `before` follow the order of the list: with `descending`, `after` means older.
    """

    limit: int = 50
    after: str | None = None
    before: str | None = None
    descending: bool = True


class Order(Struct, frozen=True, kw_only=True):
    """What orders a list. `cursor` selects the `columns` of the row `$1`, as far as `$2` may see it."""

    columns: tuple[str, ...]
    cursor: str
    noun: str


class Select:
    """A statement under construction. Fragments are constants; every value is an argument."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._conditions: list[str] = []
        self._arguments: list[object] = []

    def where(self, condition: str, *values: object) -> "Select":
        """Add a condition; each `{}` in it stands for one of `values`."""
        start = len(self._arguments) + 1
        self._arguments += values
        self._conditions.append(condition.format(*(f"${start + i}" for i in range(len(values)))))
        return self

    async def page(self, conn: Conn, page: Page, *, order: Order, scope: str) -> list[Row]:
        """Return the rows of `page` in the order of the list. `scope` is what the cursor's row must be in.

        With `before` alone these are the rows nearest to it, so that paging backwards meets no gap.

        Raises:
            NotFoundError: `after` or `before` names no row of the list.
        """
        backwards = page.before is not None and page.after is None
        if page.after is not None:
            await self._bound(conn, page.after, "<" if page.descending else ">", order, scope)
        if page.before is not None:
            await self._bound(conn, page.before, ">" if page.descending else "<", order, scope)
        direction = " desc" if page.descending != backwards else ""
        rows = await self._fetch(conn, ", ".join(c + direction for c in order.columns), page.limit)
        return rows[::-1] if backwards else rows

    async def value(self, conn: Conn) -> Any:
        """Return the first column of the first row, unordered: for counts."""
        statement = "\n".join((self._head, " where " + "\n   and ".join(self._conditions)))
        return await conn.fetchval(statement, *self._arguments)

    async def _bound(self, conn: Conn, row_id: str, sign: str, order: Order, scope: str) -> None:
        key = await conn.fetchrow(order.cursor, row_id, scope)
        if key is None:
            raise NotFoundError(order.noun, row_id)
        marks = ", ".join(["{}"] * len(order.columns))
        self.where(f"({', '.join(order.columns)}) {sign} ({marks})", *key)

    async def _fetch(self, conn: Conn, order_by: str, limit: int) -> list[Row]:
        conditions = "\n   and ".join(self._conditions)
        arguments: Sequence[object] = (*self._arguments, limit)
        return await conn.fetch(
            "\n".join(
                (self._head, " where " + conditions, " order by " + order_by, f" limit ${len(arguments)}")
            ),
            *arguments,
        )
