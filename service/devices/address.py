"""Where the process of a device is reached: a socket in a folder that only its user may enter.

A path to a socket may have 107 bytes, which a home folder easily exceeds; where the system shows open folders
as paths (/proc), any depth will do.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".sock"
OPEN_FOLDERS = Path("/proc/self/fd")


@dataclass(frozen=True)
class Address:
    """The socket of one device."""

    path: Path

    @classmethod
    def all(cls, folder: Path) -> "tuple[Address, ...]":
        """Those in a folder, by name."""
        return tuple(cls(path) for path in sorted(folder.glob(f"*{SUFFIX}")))

    @classmethod
    def of(cls, folder: Path, index: int) -> "Address":
        """That of the device of a number."""
        return cls(folder / f"{index:03}{SUFFIX}")

    def listen(self, backlog: int) -> socket.socket:
        """A listening socket, in the place of one that a process has left behind.

        Raises
        ------
        OSError
        """
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            with self._short() as path:
                listener.bind(path)
            self.path.chmod(0o600)  # nobody can have connected: it does not listen yet
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        return listener

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection.

        Parameters
        ----------
        timeout_s : how long any operation on it may take, in seconds.

        Raises
        ------
        OSError
            Nobody listens.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            with self._short() as path:
                connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection

    @contextmanager
    def _short(self) -> Iterator[str]:
        if not OPEN_FOLDERS.is_dir():
            yield str(self.path)
            return
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield str(OPEN_FOLDERS / str(folder) / self.path.name)
        finally:
            os.close(folder)
