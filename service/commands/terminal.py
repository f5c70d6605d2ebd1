"""What the commands share: kinds of arguments, settings, errors and progress as a person sees them.

Knows no command.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.config import Settings, SettingsError
from training.errors import HeadstartError

if TYPE_CHECKING:
    from service.store import Store

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OF_TRAINING = ("torch", "torchvision", "onnxscript")
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def read_settings() -> Settings:
    """The settings, or an error that the user reads."""
    try:
        return Settings.from_env()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def require_torch(who: str) -> None:
    """Refuse to start where training is not installed, in one line that says what to do."""
    missing = [name for name in OF_TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"{who} needs {', '.join(missing)}: install requirements/export.txt, or the extra `export`"
        )


@contextmanager
def told() -> Iterator[None]:
    """Errors that are raised on purpose, and those of files, in one line instead of a traceback."""
    try:
        yield
    except (HeadstartError, OSError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def opened_store() -> "Iterator[Store]":
    """The store of the settings, at the current schema; its errors in one line."""
    from service.store import Store

    settings = read_settings()
    with told(), Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
        store.migrate()
        yield store


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[str, float], None]]:
    """A bar that is told the stage that begins and the fraction (0 to 1) of the whole that is done."""
    with click.progressbar(length=100, label=label, show_eta=False) as bar:

        def show(stage: str, fraction: float) -> None:
            bar.label = f"{label}: {stage}"
            bar.update(round(fraction * 100) - bar.pos)

        yield show


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Cells as a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in rows
    )
