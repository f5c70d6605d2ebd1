"""Cutting lists into pages by cursor: the last item seen, so that inserts in between move nothing."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from service.store.records import Cursor, Page

Row = TypeVar("Row")

LARGEST_PAGE = 10_000


def page_size(limit: int) -> int:
    """The limit, if it is one.

    Raises
    ------
    ValueError
        It is not between 1 and LARGEST_PAGE.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise ValueError(f"expected a page of 1 to {LARGEST_PAGE} items, got {limit}")
    return limit


def page_of(rows: Sequence[Row], limit: int, cursor: Callable[[Row], Cursor]) -> Page[Row, Cursor]:
    """The first `limit` rows of `limit + 1`: the one too many says that there is a next page."""
    items = tuple(rows[:limit])
    return Page(items, cursor(items[-1]) if len(rows) > limit else None)
