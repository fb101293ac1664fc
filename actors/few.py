"""A set for what is nearly always empty: every agent in memory has several."""

from collections.abc import Collection
from typing import TypeVar

T = TypeVar("T")


class Few(list[T]):
    """A set of a handful of things. Empty it costs 56 bytes, an empty `set` 216; looking up is O(n)."""

    __slots__ = ()

    def add(self, item: T) -> None:
        """Put an item in, unless it is there."""
        if item not in self:
            self.append(item)

    def discard(self, item: T) -> None:
        """Take an item out, if it is there."""
        if item in self:
            self.remove(item)

    def discard_all(self, items: Collection[T]) -> None:
        """Take out those of these items that are there."""
        if self:
            self[:] = [item for item in self if item not in items]
