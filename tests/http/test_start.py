"""A server that cannot serve says why in one line, at once, and does not come up half."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.server import ROOT

TIMEOUT_S = 120


def unprivileged() -> list[str]:
    """For root, to whom every file is open: a prefix that takes this right away."""
    capabilities = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={capabilities}"] if os.geteuid() == 0 else []


def refused(settings: dict[str, str], command: str = "serve", prefix: Sequence[str] = ()) -> str:
    """Start with these settings, expect it to end by itself with an error; its last line."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "service.cli", command],
        cwd=ROOT,
        env=environ | settings,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_a_missing_extractor(tmp_path: Path) -> None:
    last = refused({"HEADSTART_HOME": str(tmp_path)})
    assert "Run `headstart export efficientnet-lite0`" in last


def test_a_home_folder_that_cannot_be_used_is_told_by_export_too(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for command in ("serve", "export"):
        assert str(file) in refused({"HEADSTART_HOME": str(file)}, command)


def test_a_home_folder_that_cannot_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        for command in ("serve", "export"):
            assert "Permission denied" in refused({"HEADSTART_HOME": str(tmp_path)}, command, unprivileged())
    finally:
        tmp_path.chmod(0o700)


def test_a_port_that_is_taken(lite0_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        settings = {"HEADSTART_EXTRACTORS": str(lite0_folder), "HEADSTART_HOME": str(tmp_path)}
        assert "HEADSTART_PORT" in refused(settings | {"HEADSTART_PORT": port})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HEADSTART_PORT", "http", "expected a whole number"),
        ("HEADSTART_HOME", "/proc/headstart", "cannot be created"),
        ("HEADSTART_DATABASE_URL", "mysql://host/name", "expected a URL of"),
    ],
)
def test_a_setting_that_cannot_be_used(
    lite0_folder: Path, tmp_path: Path, variable: str, value: str, expected: str
) -> None:
    good = {"HEADSTART_EXTRACTORS": str(lite0_folder), "HEADSTART_HOME": str(tmp_path)}
    assert expected in refused(good | {variable: value})


def test_the_parent_of_the_workers_imports_nothing_that_answers_requests(tmp_path: Path) -> None:
    unneeded = ("alembic", "fastapi", "scipy", "service.api", "service.engine")
    probe = f"import sys, service.app; sys.exit(' '.join(set({unneeded}) & set(sys.modules)))"
    environ = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=ROOT,
        env=environ | {"HEADSTART_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stderr.strip() == ""
