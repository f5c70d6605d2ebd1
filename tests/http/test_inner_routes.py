"""BentoML's own routes, pickles and control sockets: none can be reached, whatever a client sends."""

import base64
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.server import Server, running
from tests.service.conftest import tiny_extractor

PICKLE = "application/vnd.bentoml+pickle"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What BentoML's clients, runners and tasks send beside the body.
INNER_HEADERS = {
    "Bentoml-Task-Id": "1",
    "Bento-Name": "headstart",
    "Runner-Name": "headstart",
    "Payload-Container": "DefaultContainer",
    "Payload-Meta": json.dumps({"format": "pickle5", "pickle_bytes_str": ""}),
    "Batch-Size": "1",
    "Args-Number": "1",
}
# Those of runners and of earlier releases, which the service of the reference below does not show.
OTHER_PATHS = ("/__is_ready__", "/health", "/docs.json", "/static_content/index.html", "/predict", "/api/v1")
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:;"
    " style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
}
# Also of these the server has routes, with other answers than BentoML's.
OWN_PATHS = {"/", "/healthz", "/livez", "/readyz", "/metrics", "/docs"}

# Runs in every process of the server before anything else does, and unpickles once to show that it notices.
WATCH = """
import os, pickle, sys

def note(event, args):
    if event == "pickle.find_class":
        with open({log!r}, "a") as log:
            print(os.getpid(), *args, file=log)

sys.addaudithook(note)
pickle.loads(pickle.dumps(os.getcwd))
"""

# A service as BentoML serves it: its routes, and what its inner server does with a pickle.
REFERENCE = """
import asyncio, json, sys
import bentoml, httpx

@bentoml.service(metrics={"enabled": False})
class Reference:
    @bentoml.api
    def guess(self, x: int) -> int:
        return x

    @bentoml.task
    def work(self, x: int) -> int:
        return x

async def main():
    outer, inner = Reference.to_asgi(is_main=True), Reference.to_asgi(is_main=False)
    async with inner.router.lifespan_context(inner):
        transport = httpx.ASGITransport(inner, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
            payload, kind = bytes.fromhex(sys.argv[1]), sys.argv[2]
            await client.post("/guess", content=payload, headers={"Content-Type": kind})
    print(json.dumps([route.path for route in outer.routes]))

asyncio.run(main())
"""


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the watch, with its log."""
    folder = tmp_path_factory.mktemp("watch")
    (folder / "sitecustomize.py").write_text(WATCH.format(log=str(folder / "log")))
    return folder


@pytest.fixture(scope="module")
def watched(watch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, in whose processes whatever is unpickled is noted."""
    paths = os.pathsep.join([str(watch), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    extractor = tiny_extractor(tmp_path_factory.mktemp("extractors") / "tiny")
    environ = {"PYTHONPATH": paths, "HEADSTART_WORKERS": "1"}
    with running(tmp_path_factory.mktemp("home"), extractor=extractor, settings=environ) as server:
        yield server


def processes(server: Server) -> list[psutil.Process]:
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children(recursive=True)]


def unpickled(watch: Path) -> list[str]:
    return (watch / "log").read_text().splitlines()


def bodies(payload: bytes) -> dict[str, dict[str, Any]]:
    """A pickle in every form that BentoML, or this service, takes."""
    pickled = {"x": ("x.pkl", payload, PICKLE), "input": ("x.pt", payload, PICKLE)}
    return {
        "inner": {"content": payload, "headers": {"Content-Type": PICKLE, **INNER_HEADERS}},
        "buffers": {
            "content": payload,
            "headers": {
                "Content-Type": f"{PICKLE}; x=y",
                "Payload-Buffer-Lengths": f"{len(payload)}",
                "Buffer-Lengths": f"{len(payload)}",
            },
        },
        "form": {"files": pickled, "headers": INNER_HEADERS},
        "json": {"json": {"input": base64.b64encode(payload).decode()}},
    }


def test_no_pickle_is_read_on_any_route(watched: Server, watch: Path, tmp_path: Path) -> None:
    started = unpickled(watch)
    assert {int(line.split()[0]) for line in started} >= {process.pid for process in processes(watched)}

    reached, served = tmp_path / "reached", tmp_path / "served"
    reference = subprocess.run(
        [sys.executable, "-c", REFERENCE, pickle.dumps(Touch(reached)).hex(), PICKLE],
        cwd=tmp_path,
        env=os.environ | {"BENTOML_DO_NOT_TRACK": "True"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert reached.exists()  # the same payload does what it is for where it is read
    inner_paths = {*json.loads(reference.stdout.splitlines()[-1]), *OTHER_PATHS} - OWN_PATHS
    assert inner_paths > {"/schema.json", "/guess", "/work", "/work/submit", "/work/status"}

    with watched.client() as client:
        own_paths = {
            path.replace("{", "").replace("}", "") for path in client.get("/openapi.json").json()["paths"]
        }
        assert "/v1/heads/name/versions" in own_paths
        for path in sorted(inner_paths | OWN_PATHS | own_paths):
            for method in METHODS:
                for body in bodies(pickle.dumps(Touch(served))).values():
                    answer = client.request(method, path, **body)
                    assert answer.status_code < 500, (method, path, answer.text)
                    assert "X-Request-ID" in answer.headers, (method, path)
                    assert SECURITY_HEADERS.items() <= dict(answer.headers).items(), (method, path)
                    if path in inner_paths:
                        assert answer.status_code == 404, (method, path)
                        assert method == "HEAD" or answer.json()["error"]["code"] == "not_found"
    assert not served.exists()
    assert unpickled(watch) == started


def test_the_server_listens_on_its_own_port_alone(watched: Server) -> None:
    """BentoML's supervisor would take commands, such as to start a program, on two ports of its own."""
    found = [each for process in processes(watched) for each in process.net_connections("inet")]
    listening = {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}
    url = httpx.URL(watched.url)
    assert listening == {(url.host, url.port)}
    assert not [each for process in processes(watched) for each in process.net_connections("udp")]
