"""`make serve` of README.md sets up, exports the extractor and serves.

`make export` of install.md and `headstart export` of extractors.md are parts of it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

# make gets the signal as well: it dies of it, or says 2 when its command has ended first.
TERMINATED = {0, 2, 256 - signal.SIGTERM}


@pytest.mark.long
def test_make_serve_becomes_ready(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.serving", "make", "serve"],
        cwd=ROOT,
        env=kept | {"HEADSTART_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode in TERMINATED, done.stdout + done.stderr
    assert (tmp_path / "home" / "extractors" / "efficientnet-lite0" / "manifest.json").is_file()
    assert (tmp_path / "home" / "headstart.db").is_file()
