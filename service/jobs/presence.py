"""Whether a worker process lives, as other workers of its host see it: a file that it keeps locked.

The system lets go of the lock when the process ends, however it ends; no process id that was given anew can
mislead. Workers of other hosts and other home folders cannot tell, and wait for the lease to run out.
"""

import fcntl
import os
import socket
import uuid
from pathlib import Path

PREFIX = "worker-"


class Presence:
    """The lock file of this process, HOME/run/worker-<token>, and a look at those of others.

    Attributes
    ----------
    name : `host:process id:token`, unique to this process.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home.absolute() / "run"
        self._host = socket.gethostname()
        self._token = uuid.uuid4().hex
        self._lock: int | None = None
        self.name = f"{self._host}:{os.getpid()}:{self._token}"

    def __enter__(self) -> "Presence":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._path(self._token), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        self._path(self._token).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_gone(self, name: str) -> bool:
        """Whether a worker is known to have ended; False if this process cannot tell."""
        host, _, rest = name.partition(":")
        token = rest.rpartition(":")[2]
        return host == self._host and token.isalnum() and _is_unlocked(self._path(token))

    def sweep(self) -> None:
        """Remove the files of workers that are gone. Their jobs must have been taken over before."""
        for path in self._folder.glob(f"{PREFIX}*"):
            if _is_unlocked(path):
                path.unlink(missing_ok=True)

    def _path(self, token: str) -> Path:
        return self._folder / f"{PREFIX}{token}"


def _is_unlocked(path: Path) -> bool:
    """Whether the file is there and nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
