"""What a runner is, and what it is given: the job, its folder, where to report, when to stop.

Knows no kind of job.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from service.jobs.lease import Lease
from service.store import Claims, JobLostError, JobProgress, JobRow, NewEvent, StoreUnavailableError
from training.errors import HeadstartError

logger = logging.getLogger("headstart.worker")

REPORT_EVERY_S = 1.0
MAX_UNWRITTEN = 100  # events that wait for a store that does not answer
MAX_TEXT = 2000


class StoppedError(HeadstartError):
    """A runner ended because `Job.should_stop` said so."""

    code: ClassVar[str] = "job_stopped"


class Runner(Protocol):
    """What carries out the jobs of one kind."""

    def run(self, job: "Job") -> Mapping[str, Any]:
        """Carry out a job, from where an earlier attempt left `job.folder` if there was one.

        Returns
        -------
        The result, as JSON.

        Raises
        ------
        StoppedError
            `job.should_stop()` was true.
        HeadstartError, ApiError
            The job cannot be done; another attempt would not help.
        """
        ...


class Job:
    """A job in the hands of its runner.

    Parameters
    ----------
    is_stopping : whether this process was asked to end.

    Attributes
    ----------
    row : the job as it was when it was claimed; `row.attempts` is the number of this attempt.
    folder : HOME/jobs/<id>, kept between attempts and removed once the job has ended.
    """

    def __init__(
        self, row: JobRow, folder: Path, claims: Claims, lease: Lease, is_stopping: Callable[[], bool]
    ) -> None:
        self.row = row
        self.folder = folder
        self._claims = claims
        self._lease = lease
        self._is_stopping = is_stopping
        self._latest: JobProgress | None = None
        self._place_when_asked: tuple[str, int | None] | None = None
        self._written: JobProgress | None = None
        self._written_at = -math.inf
        self._unwritten: list[NewEvent] = []

    def progress(
        self,
        stage: str,
        fraction: float,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        figures: Mapping[str, float] | None = None,
        message: str = "",
    ) -> None:
        """Tell how far the job is.

        Cheap enough for every batch: it is written once a second, where the stage or the epoch changes, and
        where there is a message.

        Parameters
        ----------
        fraction : of the whole job that is done, 0 to 1.
        """
        now = JobProgress(_clean(stage), min(1.0, max(0.0, fraction)), epoch, epochs)
        self._note_the_wish_to_end()
        self._latest = now
        if message or self._is_news(now):
            shown = {name: _finite(value) for name, value in (figures or {}).items()}
            event = NewEvent("progress", {**vars(now), "figures": shown, "message": _clean(message)})
            logger.info("job %s of head %s: %s", self.row.id, self.row.head, _line(now, shown, message))
            self._written, self._written_at = now, time.monotonic()
            self._write(now, event)

    def log(self, message: str, level: str = "info") -> None:
        """Keep a line with the job, for its users."""
        logger.log(logging.getLevelNamesMapping()[level.upper()], "job %s: %s", self.row.id, message)
        self._write(None, NewEvent("log", {"level": level, "message": _clean(message)}))

    def should_stop(self) -> bool:
        """Whether the runner should raise StoppedError now.

        At once if the job was cancelled or is another worker's. If this process was asked to end, only
        between two epochs, so that no epoch that has begun is lost.
        """
        if self._lease.is_cancelled or self._lease.is_lost:
            return True
        if not self._is_stopping():
            return False
        self._note_the_wish_to_end()
        return self._place[1] is None or self._place != self._place_when_asked

    @property
    def _place(self) -> tuple[str, int | None]:
        """The stage and the epoch that were reported last."""
        return ("", None) if self._latest is None else (self._latest.stage, self._latest.epoch)

    def _note_the_wish_to_end(self) -> None:
        if self._place_when_asked is None and self._is_stopping():
            self._place_when_asked = self._place

    def require_held(self) -> None:
        """Make sure, before a step that cannot be undone, that the job is still this worker's.

        Raises
        ------
        StoppedError
            It was cancelled.
        JobLostError
            It is another worker's, or was deleted.
        StoreUnavailableError
        """
        self._lease.renew()
        if self._lease.is_cancelled:
            raise StoppedError("cancelled")

    def _is_news(self, progress: JobProgress) -> bool:
        before = self._written
        if before is None or (before.stage, before.epoch) != (progress.stage, progress.epoch):
            return True
        return progress != before and time.monotonic() - self._written_at >= REPORT_EVERY_S

    def _write(self, progress: JobProgress | None, event: NewEvent) -> None:
        self._unwritten = [*self._unwritten, event][-MAX_UNWRITTEN:]
        try:
            self._claims.report(self.row, progress, self._unwritten)
            self._unwritten = []
        except JobLostError:
            self._lease.lose()
        except StoreUnavailableError as error:
            logger.warning("the progress of job %s could not be written: %s", self.row.id, error)


def _clean(text: str) -> str:
    """Text that every database and every client can hold, and not too much of it."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(progress: JobProgress, figures: Mapping[str, float | None], message: str) -> str:
    if message:
        return f"{progress.stage}, {progress.fraction:.0%}: {message}"
    epoch = "" if progress.epoch is None else f", epoch {progress.epoch} of {progress.epochs}"
    shown = "".join(f", {name} {value:.4g}" for name, value in figures.items() if value is not None)
    return f"{progress.stage}{epoch}, {progress.fraction:.0%}{shown}"
