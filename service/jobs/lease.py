"""The hold of a worker on its job, renewed by a thread while the job is carried out. Knows no runner."""

import logging
import threading
import time

from service.store import Claims, JobLostError, JobRow, StoreUnavailableError

logger = logging.getLogger("headstart.worker")

RENEWALS = 4  # of one lease: three may fail before it runs out
RENEW_EVERY_S = 10.0  # at least: a renewal also tells that the worker lives, and whether to cancel


class Lease:
    """While it is entered, the job is renewed and its cancellation is looked for.

    Parameters
    ----------
    lease_s : for how long each renewal holds, in seconds.
    """

    def __init__(self, claims: Claims, job: JobRow, lease_s: float) -> None:
        self._claims = claims
        self._job = job
        self._lease_s = lease_s
        self._held_until = time.monotonic() + lease_s
        self._lost = False
        self._cancel_requested = job.cancel_requested
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._renew_again_and_again, name=f"lease of {job.id}", daemon=True
        )

    @property
    def is_cancelled(self) -> bool:
        """Whether the cancellation of the job was asked for."""
        return self._cancel_requested

    @property
    def is_lost(self) -> bool:
        """Whether another worker may have the job. Once lost, it stays so."""
        self._lost = self._lost or time.monotonic() > self._held_until
        return self._lost

    def lose(self) -> None:
        """Tell that the store has refused a write to the job."""
        self._lost = True

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def renew(self) -> None:
        """Renew now.

        Raises
        ------
        JobLostError, StoreUnavailableError
        """
        if self.is_lost:
            raise JobLostError(self._job.id)
        start = time.monotonic()
        self._cancel_requested = self._claims.renew(self._job, self._lease_s)
        self._held_until = start + self._lease_s

    def _renew_again_and_again(self) -> None:
        while not self._ended.wait(min(self._lease_s / RENEWALS, RENEW_EVERY_S)):
            try:
                self.renew()
            except JobLostError as error:
                logger.warning("%s", error)
                self._lost = True
                return
            except StoreUnavailableError as error:
                logger.warning("job %s could not be renewed: %s", self._job.id, error)
