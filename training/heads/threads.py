"""One thread for small matrices. Knows no mathematics.

The threads of a BLAS library wait for each other longer than a small product takes, and far longer where
other processes want the same cores: on two cores a fit of 200 examples is two to three times faster on one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

FEWEST, MOST = 64, 2048  # examples; fewer never take a second thread, more gain by it
_SETTING = Lock()


@cache
def _controller() -> Any:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_thread_for(examples: int) -> Iterator[None]:
    """Work on this many examples with as many threads as pay.

    The number is one for the whole process: while one Python thread has set it, others leave it alone.
    """
    if not FEWEST <= examples <= MOST or not _SETTING.acquire(blocking=False):
        yield
        return
    try:
        with _controller().limit(limits=1):
            yield
    finally:
        _SETTING.release()
