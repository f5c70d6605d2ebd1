"""From what is typed to values, for arguments of more than one word. Each raises click.BadParameter."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

MOST_COUNTED = 1_000_000
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
RATE = re.compile(r"([1-9][0-9]{0,5})/([smhd])")


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


def moment(text: str) -> datetime:
    """A time to come: `90d`, `12h` from now, or a date, with or without a time (UTC), as `2027-01-31`."""
    now = datetime.now(UTC)
    found = DURATION.fullmatch(text)
    try:
        if found:
            return now + timedelta(seconds=int(found[1]) * UNIT_S[found[2]])
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"expected a duration such as 90d or 12h, or a date such as 2027-01-31, found {text!r}"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at <= now:
        raise click.BadParameter(f"expected a time to come, found {text!r}")
    return at


def rate(text: str) -> tuple[float, int]:
    """`NUMBER/UNIT`, such as `10/s` or `5000/d`: how many a second, and how many at once."""
    found = RATE.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"expected a number and a unit, such as 10/s or 5000/d, found {text!r}")
    return int(found[1]) / UNIT_S[found[2]], int(found[1])
