"""Memory that was freed and that the C library keeps. Knows no cache."""

import ctypes

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def trim() -> None:
    """Give free pages back to the system: the whole of them, also those between blocks in use.

    glibc has several heaps for the threads of a process and shrinks each from its end only, which one small
    block prevents: under a load that goes on, what is free between blocks grows. Other C libraries have no
    such call, and nothing is done.
    """
    if _malloc_trim is not None:
        _malloc_trim(ctypes.c_size_t(0))
