"""A real job that is quick to learn from: it counts epochs in a file, and can be killed at any moment.

`python -m tests.service.jobs.epochs HOME [--once]` is a worker process that carries out such jobs.
"""

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.jobs import Job, Presence, StoppedError, StopSignals, Worker
from service.store import Change, JobRow, Store
from training.errors import SupportSetError

KIND = "epochs"
LEASE_S = 2.0
MAX_ATTEMPTS = 3


class EpochRunner:
    """Options: `epochs`, `epoch_s` (how long each takes), `name` (of the file beside HOME/jobs that
    has a line for each epoch ever begun), `raises`."""

    def run(self, job: Job) -> Mapping[str, Any]:
        options = job.row.options
        diary = job.folder.parent.parent / options.get("name", "diary")
        checkpoint = job.folder / "epoch"
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        job.log(f"epoch {done} is done already" if done else "from the start")
        if options.get("raises") == "expected":
            raise SupportSetError("too few of everything")
        if options.get("raises"):
            raise ZeroDivisionError(options["raises"])
        for epoch in range(done + 1, options["epochs"] + 1):
            with diary.open("a") as lines:
                lines.write(f"{job.row.id} {epoch}\n")
            end = time.monotonic() + options["epoch_s"]
            while time.monotonic() < end:
                if job.should_stop():
                    raise StoppedError("stopped")
                time.sleep(0.01)
            fresh = checkpoint.with_suffix(".new")
            fresh.write_text(str(epoch))
            fresh.replace(checkpoint)
            figures = {"loss": 1 / epoch, "rate": float("nan")}
            fraction = epoch / options["epochs"]
            job.progress("train", fraction, epoch=epoch, epochs=options["epochs"], figures=figures)
            if job.should_stop():
                raise StoppedError("stopped")
        return {"epochs": options["epochs"], "attempt": job.row.attempts}


def open_store(home: Path) -> Store:
    store = Store.open(f"sqlite:///{home / 'headstart.db'}", str(home / "blobs"))
    store.migrate()
    return store


def make_head(store: Store, name: str) -> None:
    store.heads.commit(Change(head=name, extractor_name="tiny", extractor_digest="d" * 64))


def queue(store: Store, name: str, **options: Any) -> JobRow:
    """A new head and a job for it."""
    make_head(store, name)
    return store.jobs.create(name, KIND, {"epochs": 3, "epoch_s": 0.0, **options})


def work(home: Path, *, once: bool) -> None:
    with open_store(home) as store, Presence(home) as presence, StopSignals() as signals:
        Worker(
            store,
            {KIND: EpochRunner()},
            presence,
            signals,
            home=home,
            lease_s=LEASE_S,
            max_attempts=MAX_ATTEMPTS,
        ).run(once=once, poll_s=0.05)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    work(Path(sys.argv[1]), once="--once" in sys.argv)
