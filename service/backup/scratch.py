"""Where a restore works: a folder beside the database, for its owner only, gone by the next start.

It is held by a lock that the system lets go of when a process is killed: what a crash left is told from
what is at work. Knows no backup.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.config import Settings
from service.store import Store

PREFIX = ".restoring-"


@contextmanager
def scratch(settings: Settings, store: Store) -> Iterator[Path]:
    """An empty folder, on the file system of the database if that is a file; removed after the block.

    Raises
    ------
    OSError
    """
    beside = _place(settings, store)
    beside.mkdir(parents=True, exist_ok=True)
    sweep(settings, store)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=beside))
    try:
        with _held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(settings: Settings, store: Store) -> int:
    """Delete what killed restores have left; how many folders."""
    swept = 0
    for folder in _place(settings, store).glob(f"{PREFIX}*"):
        try:
            with _held(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # a restore is at work there, or another start was faster
            continue
        swept += 1
    return swept


def _place(settings: Settings, store: Store) -> Path:
    return store.folder or settings.home.absolute()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
