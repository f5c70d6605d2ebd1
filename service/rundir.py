"""Folders that live as long as one server: HOME/run. Each is named by the process id."""

import os
import shutil
from pathlib import Path

METRICS = "metrics-"
DEVICES = "devices-"


def metrics_folder(home: Path, server_pid: int) -> Path:
    """Where the processes of one server keep the metrics that they share."""
    return home.absolute() / "run" / f"{METRICS}{server_pid}"


def devices_folder(home: Path, server_pid: int) -> Path:
    """Where the sockets of the processes are that own the devices of one server."""
    return home.absolute() / "run" / f"{DEVICES}{server_pid}"


def make_metrics_folder(home: Path, server_pid: int) -> None:
    """Make an empty one, and remove the folders of servers that are gone.

    Raises
    ------
    OSError
        It cannot be made; the message names it.
    """
    folder = metrics_folder(home, server_pid)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be created: {error.strerror}") from error
    for prefix in (METRICS, DEVICES):
        for other in folder.parent.glob(f"{prefix}*"):
            if not _is_running(other.name.removeprefix(prefix)):
                shutil.rmtree(other, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
