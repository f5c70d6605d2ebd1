"""The same work under other servers: what each is called, how it is started, and where it answers.

They run from an environment of their own (requirements/bench.txt), with uvloop and httptools, one worker for
each core, no log of requests and no metrics: no slower than a competent user would make them.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from benchmarks.processes import cores, signal_tree, tree
from benchmarks.server import POLL_S, ROOT, START_TIMEOUT_S, STOP_TIMEOUT_S, free_port

PYTHON = ROOT / ".venv-bench" / "bin" / "python"


@dataclass(frozen=True)
class Rival:
    """A server to compare with; `arguments` follow the interpreter, `{port}` stands for the port.

    Attributes
    ----------
    decoder : "pillow", which users of these servers decode with, or "headstart": that of the service.
    """

    name: str
    arguments: tuple[str, ...]
    health: str
    path: str = "/predict"
    decoder: str = "pillow"


FASTAPI = Rival(
    "FastAPI",
    (
        *("-m", "uvicorn", "benchmarks.rivals.fastapi_app:app", "--workers", f"{cores()}"),
        *("--port", "{port}", "--no-access-log", "--log-level", "warning"),
    ),
    "/health",
)
LITSERVE = Rival("LitServe", ("-m", "benchmarks.rivals.litserve_app", "{port}"), "/health")
BENTOML = Rival(
    "BentoML native",
    ("-m", "bentoml", "serve", "benchmarks.rivals.bentoml_app:Photographs", "--port", "{port}"),
    "/readyz",
)
HELLO = Rival(
    "BentoML hello-world",
    ("-m", "bentoml", "serve", "benchmarks.rivals.bentoml_hello:Hello", "--port", "{port}"),
    "/readyz",
    "/hello",
)
# How much of the advantage is the decoder: the fastest of them, with that of the service.
FASTAPI_WITH_OURS = replace(FASTAPI, name="FastAPI, our decoder", decoder="headstart")
RIVALS = (LITSERVE, BENTOML, FASTAPI, FASTAPI_WITH_OURS)


@dataclass(frozen=True)
class Running:
    """A rival that answers, and how long it took to."""

    url: str
    process: subprocess.Popen[bytes]
    ready_s: float


@contextmanager
def running(rival: Rival, log: Path, environ: Mapping[str, str], python: Path = PYTHON) -> Iterator[Running]:
    """A rival for the length of a block.

    Raises
    ------
    RuntimeError
        Its environment is missing, or it does not become ready; then the message ends in its log.
    """
    if not python.is_file():
        raise RuntimeError(f"the environment of the other servers is missing ({python}): make bench-serving")
    port = free_port()
    command = [str(python), *(argument.format(port=port) for argument in rival.arguments)]
    settings = {"OPENBLAS_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **settings, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        _wait_until_ready(rival, base, process, log)
        yield Running(base + rival.path, process, time.perf_counter() - start)
    finally:
        _stop(process)


def _wait_until_ready(rival: Rival, base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(base + rival.health, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise RuntimeError(f"{rival.name} did not become ready:\n{log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; what has not ended by then is killed, so that nothing of it stays."""
    family = tree(process.pid)
    signal_tree(process.pid, signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
