"""nginx with the configuration of deploy/nginx, in a temporary folder, and the script beside it."""

import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.server import ROOT

DEPLOYED = ROOT / "deploy" / "nginx"
REPLICAS = "headstart-replicas.conf"
TIMEOUT_S = 10
MAIN = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/headstart.conf;
}}
"""


@dataclass(frozen=True)
class Balancer:
    """nginx in front of replicas."""

    url: str
    folder: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    @property
    def replicas(self) -> Sequence[str]:
        """The lines of the list that it uses now."""
        return (self.folder / REPLICAS).read_text().splitlines()

    @contextmanager
    def watching(self, addresses: Sequence[str]) -> Iterator[None]:
        """watch-replicas for the length of a block."""
        environ = {**os.environ, "NGINX_RELOAD": f"kill -HUP {(self.folder / 'nginx.pid').read_text()}"}
        command = [str(DEPLOYED / "watch-replicas"), str(self.folder / REPLICAS), *addresses]
        watcher = subprocess.Popen(command, env=environ)
        try:
            yield
        finally:
            watcher.terminate()
            watcher.wait()


@contextmanager
def balanced(folder: Path, address: str, replicas: Sequence[str]) -> Iterator[Balancer]:
    """nginx at ADDRESS:PORT, in front of replicas at such addresses.

    Raises
    ------
    RuntimeError
        nginx is missing or does not start.
    """
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        raise RuntimeError("nginx is missing (Debian: apt-get install nginx-light)")
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    text = (DEPLOYED / "headstart.conf").read_text()
    assert text.count("listen 80;") == 1
    (folder / "headstart.conf").write_text(text.replace("listen 80;", f"listen {address};"))
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=getpass.getuser()))
    (folder / REPLICAS).write_text(
        "".join(f"server {replica} max_fails=3 fail_timeout=2s;\n" for replica in replicas)
    )
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stdout=output, stderr=output
        )
    try:
        balancer = Balancer(f"http://{address}", folder)
        _wait(balancer, process)
        yield balancer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_S)


def _wait(balancer: Balancer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"{balancer.url}/metrics", trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.02)
    raise RuntimeError(f"nginx did not start: {(balancer.folder / 'output').read_text()}")
