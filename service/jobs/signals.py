"""The wish that a process ends, as SIGTERM or SIGINT, without interrupting what it does."""

import os
import select
import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While it is entered, a signal to end is remembered instead of ending the process.

    Only the main thread may enter it. A second SIGINT ends the process at once.

    Attributes
    ----------
    asked : whether a signal has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        self._reader = self._writer = self._wakeup = -1

    def __enter__(self) -> "StopSignals":
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer)
        self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a signal comes."""
        # A lock or a plain sleep would go on waiting after the signal; a pipe that has a byte does not.
        if not self.asked:
            select.select([self._reader], [], [], seconds)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
