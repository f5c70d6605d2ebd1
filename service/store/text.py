"""Which strings a database can hold: all but those with U+0000 (PostgreSQL) or a lone surrogate (UTF-8)."""

from collections.abc import Iterable

from service.store.errors import InvalidTextError


def is_storable(text: str) -> bool:
    """Whether every database here can hold the text, character for character."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_storable(what: str, texts: Iterable[str]) -> None:
    """Refuse the first text that cannot be stored.

    Raises
    ------
    InvalidTextError
    """
    for text in texts:
        if not is_storable(text):
            raise InvalidTextError(f"the {what} {text!r:.80} has a character that cannot be stored")
