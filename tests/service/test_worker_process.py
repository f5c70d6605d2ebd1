"""What a worker process does once for itself, in a process of its own."""

import subprocess
import sys

ASKED = """
import gc
from service import worker

before = gc.get_threshold()
gc.disable()
worker.collect_rarely()
print(gc.isenabled(), gc.get_freeze_count() > 10_000, gc.get_threshold()[0] > 10 * before[0])
"""


def test_garbage_is_looked_for_but_rarely_and_not_among_what_was_imported() -> None:
    found = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True"] * 3
