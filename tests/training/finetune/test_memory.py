"""Freed memory is reused: no page is faulted in again."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from training.finetune.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    sys.exit()
for _ in range(20):
    np.ones(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(8 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    ran = subprocess.run([sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_freed_memory_is_reused() -> None:
    kept = faults("kept")
    if kept < 0:
        pytest.skip("another allocator than glibc's")
    assert kept < 0.1 * faults("as usual")
