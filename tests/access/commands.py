"""The commands of `headstart`, run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.server import ROOT

TIMEOUT_S = 120


def headstart(
    home: Path, *arguments: str, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `headstart` on a home folder, to its end."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=ROOT,
        env=environ | {"HEADSTART_HOME": str(home), **(settings or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def make_key(home: Path, *options: str) -> str:
    """Make a key with `headstart keys create`; its text."""
    done = headstart(home, "keys", "create", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
