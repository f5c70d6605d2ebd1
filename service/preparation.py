"""What is done once, before any process serves: the home folder is made fit for them.

The parent of the processes does it, so this imports no more than it needs.
"""

import logging
from datetime import timedelta

from service.backup.scratch import sweep as sweep_scratch
from service.config import Settings
from service.devices.sessions import Device
from service.embedding.loading import load_extractors
from service.embedding.registry import Registry
from service.store import Store, StoreUnavailableError

logger = logging.getLogger("headstart.preparation")


def prepare(settings: Settings, device: Device | None = None) -> None:
    """Bring the database to the current schema, try out the extractors.

    Parameters
    ----------
    device : of the server, if processes of their own own it; None: each process has what the settings say.

    Raises
    ------
    ManifestError, DeviceError, StoreError
        No process could serve; the message says what to do.
    """
    for extractor in load_extractors(settings, device):
        extractor.close()
    store = Store.open(settings.resolved_database_url, settings.resolved_blob_url)
    try:
        store.migrate()
        _tidy(settings, store)
    finally:
        store.close()


def _tidy(settings: Settings, store: Store) -> None:
    """Finish what a crash left; predictions do not need the blobs, so that a server starts without them."""
    if settings.audit_days:
        store.audit.forget(timedelta(days=settings.audit_days))
    sweep_scratch(settings, store)
    try:
        Registry.of(settings, store).sweep()
        count = store.inputs.tidy()
    except StoreUnavailableError as error:
        logger.warning("the blobs were not tidied: %s", error)
        return
    if count:
        logger.info("%d inputs of requests that a crash ended were deleted", count)
