"""Schemathesis against the served OpenAPI: no 5xx, no undocumented status, every answer as documented."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.server import Server

HOOKS = "tests.http.schemathesis_hooks"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
TIMEOUT_S = 300


def run(server: Server, tmp_path: Path, config: str, *options: str) -> int:
    """Run Schemathesis in its own process; the number of requests it made. Fails on any finding."""
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(config)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(settings)),
            *("run", f"{server.url}/openapi.json", "--checks", CHECKS, "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--request-timeout", "60", *options),
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed\s*$", done.stdout.split("Test cases:")[1].split("Seed")[0])
    assert passed, done.stdout
    return int(passed[1])


def test_any_request(server: Server, tmp_path: Path) -> None:
    assert run(server, tmp_path, "", "--max-examples", "20") > 500


def test_requests_that_reach_a_head(server: Server, tmp_path: Path, teach: Callable[..., dict]) -> None:
    ids = teach("fuzzed")["examples"]["ids"]
    config = f"""
[parameters]
"path.name" = "fuzzed"
"path.number" = 1
"path.example_id" = "{ids[0]}"
"""
    answered = {"route": "/v1/heads/{name}/predict", "status": "200"}
    before = server.metric("headstart_requests_total", **answered)
    assert run(server, tmp_path, config, "--max-examples", "30", "--exclude-method", "DELETE") > 300
    assert server.metric("headstart_requests_total", **answered) >= before + 5
