"""Folders that live as long as one server: HOME/run. Each is named by the process id."""

import os
import shutil
from pathlib import Path

PREFIX = "metrics-"


def metrics_folder(home: Path, server_pid: int) -> Path:
    """Where the processes of one server keep the metrics that they share."""
    return home.absolute() / "run" / f"{PREFIX}{server_pid}"


def make_metrics_folder(home: Path, server_pid: int) -> None:
    """Make an empty one, and remove those of servers that are gone."""
    folder = metrics_folder(home, server_pid)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for other in folder.parent.glob(f"{PREFIX}*"):
        if not _is_running(other.name.removeprefix(PREFIX)):
            shutil.rmtree(other, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
