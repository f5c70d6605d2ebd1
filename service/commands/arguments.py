"""From what is typed to values, for arguments of more than one word. Each raises click.BadParameter."""

from pathlib import Path

import click

MOST_COUNTED = 1_000_000


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once, in the order they were typed."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise click.BadParameter("expected one or more names, separated by commas")
    return found


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, separated by commas: ascending, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part[:8]) <= MOST_COUNTED for part in parts):
        raise click.BadParameter(
            f"expected whole numbers from 1 to {MOST_COUNTED}, separated by commas, found {text!r}"
        )
    return tuple(sorted({int(part) for part in parts}))


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, _, value = text.partition("=")
    if not (name and value):
        raise click.BadParameter(f"expected NAME=VALUE, found {text!r}")
    return name, value


def new_file(text: str) -> Path:
    """A file to write at the end, in a folder that is there already: better told now than then."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise click.BadParameter(f"expected a file in a folder that exists, found {text!r}")
    return path
