"""A real S3 API on the loopback address: moto's server, in a process of its own."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "headstart"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running_s3(host: str = "127.0.0.1") -> Iterator[str]:
    """The endpoint of a server, at an address of this machine, with one empty bucket."""
    endpoint = f"http://{host}:{(port := free_port())}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _make_bucket(endpoint, server)
        yield endpoint
    finally:
        server.terminate()
        server.wait()


def _make_bucket(endpoint: str, server: "subprocess.Popen[bytes]") -> None:
    request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(request).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
