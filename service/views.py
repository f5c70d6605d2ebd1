"""One thing as several see it. Knows nothing of what it is."""

from typing import TypeVar

T = TypeVar("T")


def view_of(whole: T) -> T:
    """A shallow copy, as `copy.copy` makes it of a plain object, but fast enough for each request."""
    view = object.__new__(type(whole))
    view.__dict__.update(whole.__dict__)
    return view
