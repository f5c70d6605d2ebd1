"""Whether other processes of this machine write blobs: a lock that each of them shares until it ends.

The system lets go of it when a process is killed: what a crash left is told from what is at work. Knows
no blob and no database.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Writers:
    """Safe to share between threads.

    Parameters
    ----------
    path : of the lock, on a disk that all processes which could write are on; None: there is no such disk.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._shared: int | None = None
        self._lock = threading.Lock()

    def join(self) -> None:
        """Count as a writer until the end of this process; waits while another one tidies.

        Raises
        ------
        OSError
        """
        if self._path is None or self._shared is not None:
            return
        with self._lock:
            if self._shared is None:
                descriptor = _open(self._path)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                self._shared = descriptor

    def leave(self) -> None:
        """Write no more."""
        with self._lock:
            descriptor, self._shared = self._shared, None
            if descriptor is not None:
                os.close(descriptor)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """For the length of a block: whether it is certain that nobody writes, as others wait meanwhile."""
        if self._path is None:
            yield False
            return
        descriptor = _open(self._path)
        try:
            yield _try_to_exclude(descriptor)
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_to_exclude(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
