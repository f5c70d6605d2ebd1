"""The run folders of jobs, HOME/jobs/ID: checkpoints and what a job has made so far. Knows no kind of job."""

import shutil
from pathlib import Path

from service.store import Store


def remove_ended(store: Store, folder: Path) -> None:
    """Remove the run folders of jobs that have ended or were deleted.

    Raises
    ------
    StoreUnavailableError
    """
    found = list(folder.glob("*"))
    unfinished = store.claims.unfinished_ids() if found else frozenset()
    for run in found:
        if run.name not in unfinished:
            shutil.rmtree(run, ignore_errors=True)
