"""What is swept from memory leaves the process."""

import os
import platform
from pathlib import Path

import pytest

from service.prediction.sweeping import Sweeper

BLOCK_BYTES = 64 * 1024  # below what glibc maps by itself
BLOCKS = 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is known to keep what lies between")
def test_memory_that_is_free_between_what_is_in_use_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x" * BLOCK_BYTES) for _ in range(BLOCKS)]
    del blocks[::2]
    before = resident_bytes()
    sweeper = Sweeper([lambda: 3])
    try:
        assert sweeper.sweep() == 3
    finally:
        sweeper.close()
    assert before - resident_bytes() > 0.8 * BLOCKS // 2 * BLOCK_BYTES
    assert all(len(block) == BLOCK_BYTES for block in blocks)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
