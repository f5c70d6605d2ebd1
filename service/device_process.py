"""`python -m service.device_process SOCKET EXTRACTOR...`: the process that owns a device.

Standard input is a socket whose other end the parent holds. One line of JSON on it says that the process is
ready, or why it cannot be; its end says that the parent is gone. Knows when to end; `devices.process` is the
rest.
"""

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from service.config import Settings
from service.devices.address import Address
from service.devices.bound import BoundSession
from service.devices.process import DeviceProcess
from service.devices.settings import device_of
from service.embedding.loading import load_extractor
from service.logs import configure_logging
from training.errors import HeadstartError

logger = logging.getLogger("headstart.devices")

WATCH_EVERY_S = 1.0
TELL_EVERY_S = 60.0
# A batch that takes longer than this never ends: no network needs it, a GPU that hangs does.
STUCK_AFTER_S = 60.0
# A device on which so many batches in a row fail does not recover inside of this process.
MOST_FAILURES = 3
EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h


def main(arguments: Sequence[str]) -> int:
    """Load extractors, answer on a socket until the parent is gone or SIGTERM comes."""
    parent = socket.socket(fileno=os.dup(0))
    settings = Settings.from_env()
    configure_logging(settings.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the API processes finish first
    signal.signal(signal.SIGTERM, lambda *_: parent.shutdown(socket.SHUT_RDWR))
    address, *folders = arguments
    try:
        process = _open(settings, [Path(folder) for folder in folders])
        process.listen(Address(Path(address)))
    except (HeadstartError, OSError) as error:
        code = error.code if isinstance(error, HeadstartError) else "device_unavailable"
        _tell(parent, {"error": code, "message": str(error)})
        return 1
    _tell(parent, {"ready": os.getpid()})
    _watch(parent, process)
    process.close()
    logger.info("the process of the device ends")
    return 0


def _open(settings: Settings, folders: Sequence[Path]) -> DeviceProcess:
    device = device_of(settings, is_batched=True)
    sessions = {}
    for folder in folders:
        session = load_extractor(folder, settings, device).session
        if not isinstance(session, BoundSession):
            raise TypeError(f"expected a session with fixed batch sizes, found {type(session).__name__}")
        sessions[session.graph.sha256] = session
    return DeviceProcess(
        device, sessions, most_graphs=settings.registered_extractors, failed=_give_up_after_failures
    )


def _tell(parent: socket.socket, line: dict[str, object]) -> None:
    try:
        parent.sendall(json.dumps(line).encode() + b"\n")
    except OSError:
        logger.warning("the parent is gone before the process of the device was ready")


def _watch(parent: socket.socket, process: DeviceProcess) -> None:
    """Return when the parent is gone or wants an end; end at once if the device is stuck."""
    parent.settimeout(WATCH_EVERY_S)
    told_at, told_batches, told_images = time.monotonic(), 0, 0
    while True:
        try:
            if not parent.recv(1):
                return
        except TimeoutError:
            pass
        except OSError:
            return
        now = time.monotonic()
        since = [batcher.running_since for batcher in process.batchers]
        if any(began is not None and now - began > STUCK_AFTER_S for began in since):
            logger.error("a batch has run for more than %g s: the device is stuck", STUCK_AFTER_S)
            os._exit(EXIT_STUCK)
        batches = sum(batcher.batches for batcher in process.batchers)
        if now - told_at >= TELL_EVERY_S and batches > told_batches:
            images = sum(batcher.images for batcher in process.batchers)
            mean = (images - told_images) / (batches - told_batches)
            logger.info("%d batches of %.1f images on average", batches - told_batches, mean)
            told_at, told_batches, told_images = now, batches, images


def _give_up_after_failures(in_a_row: int) -> None:
    if in_a_row >= MOST_FAILURES:
        logger.error("%d batches in a row have failed: starting anew", in_a_row)
        os._exit(EXIT_STUCK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
