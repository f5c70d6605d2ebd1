"""Nothing leaves the machine: importing and running the runtime leaves no trace of telemetry."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

REPORTS = "Microsoft"


def files_after(code: str, home: Path) -> list[str]:
    """Files in a new user's home after running some Python in it.

    The environment holds no more than a user's: onnxruntime does not report where it sees `CI`, for one.
    """
    home.mkdir()
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


def test_the_runtime_does_not_report(tmp_path: Path) -> None:
    assert not files_after("import training.runtime", tmp_path / "ours")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="other builds may not report"
)
def test_this_would_notice_a_report(tmp_path: Path) -> None:
    """Where it fails, onnxruntime no longer reports by itself, and `training.runtime` can go."""
    assert any(REPORTS in path for path in files_after("import onnxruntime", tmp_path / "theirs"))
