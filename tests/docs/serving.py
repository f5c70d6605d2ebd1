"""Runs a command that serves until it is stopped: on a free port, until it is ready, then SIGTERM.

`python -m tests.docs.serving COMMAND ...`; its exit status is that of the command.
"""

import os
import signal
import subprocess
import sys
import time

import httpx

from benchmarks.server import free_port

READY_TIMEOUT_S = 180
STOP_TIMEOUT_S = 40
POLL_S = 0.05


def serve_until_ready(command: list[str]) -> int:
    """The exit status of the command after SIGTERM; 1 if it ended, or was not ready in time."""
    port = free_port()
    process = subprocess.Popen(
        command, env=os.environ | {"HEADSTART_PORT": str(port)}, start_new_session=True
    )
    try:
        if not _is_ready(process, f"http://127.0.0.1:{port}/readyz"):
            return 1
        os.killpg(process.pid, signal.SIGTERM)
        return process.wait(STOP_TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return True
        except httpx.TransportError:
            time.sleep(POLL_S)
    return False


if __name__ == "__main__":
    sys.exit(serve_until_ready(sys.argv[1:]))
