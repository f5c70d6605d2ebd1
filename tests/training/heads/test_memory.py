import platform
import subprocess
import sys

import pytest

FITS = """
import resource
from tests.training.heads.clouds import clouds
from training.heads import fit_head

embeddings, labels = clouds(150, 4, dim=1280)
for _ in range(3):
    fit_head(embeddings, labels, extractor_digest="d")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    fit_head(embeddings, labels, extractor_digest="d")
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep memory their own way")
def test_a_fit_works_in_the_memory_of_the_one_before() -> None:
    """A fit makes arrays of 20 MB and more: 5,000 pages, each of which costs a microsecond to take again."""
    ran = subprocess.run([sys.executable, "-c", FITS], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 2000
