"""Memory that is freed and soon wanted again. Knows no mathematics.

A fit makes and drops some fifty arrays of megabytes. glibc gives them back to the system at once and takes
them again page by page, which is a tenth of the time of a fit of 1,000 examples. How much it keeps grows with
the largest block that was ever freed (mallopt(3): M_MMAP_THRESHOLD is dynamic up to 32 MiB, and twice as much
is kept), so one block that is freed untouched is enough. Other allocators take no notice.
"""

from functools import cache

import numpy as np

LARGEST_KEPT_BYTES = (32 << 20) - (64 << 10)  # just below what is given back whatever was freed before


@cache
def keep_freed_memory() -> None:
    """Let the process keep up to 64 MiB of freed memory for its next arrays; once for all."""
    np.empty(LARGEST_KEPT_BYTES, dtype=np.uint8)
