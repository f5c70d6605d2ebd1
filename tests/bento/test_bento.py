"""The bento of docs/guide/deploy.md: built, served in an environment that has what serving requires only.

Run by `make test-bento`; it installs packages, so it is no part of the default run.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import images_of, multipart
from benchmarks.server import ROOT, free_port

START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A BentoML home of its own, and no HEADSTART_ variable from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    return kept | {"BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml")), "BENTOML_DO_NOT_TRACK": "True"}


@pytest.fixture(scope="module")
def serving_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with `requirements/serve.txt` and nothing else."""
    folder = tmp_path_factory.mktemp("serving")
    uv = Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
    requirements = ROOT / "requirements" / "serve.txt"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-r", requirements], check=True)
    return python


@pytest.fixture(scope="module")
def bento_url(
    lite0_folder: Path,
    environment: dict[str, str],
    serving_python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The bento, built from this checkout and served by the fresh environment, away from the checkout."""
    folder = tmp_path_factory.mktemp("served")
    build = [sys.executable, ROOT / "deploy" / "bento.py", lite0_folder]
    subprocess.run(build, env=environment, cwd=ROOT, check=True)
    port = free_port()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                serving_python,
                "-m",
                "bentoml",
                "serve",
                "headstart:latest",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            env=environment | {"HEADSTART_HOME": str(folder / "home"), "HEADSTART_WORKERS": "1"},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, folder / "server.log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the bento did not become ready:\n{log.read_text()[-4000:]}")


def test_the_serving_environment_has_no_torch(serving_python: Path) -> None:
    absent = "('torch', 'torchvision', 'training')"
    probe = f"import importlib.util as u; raise SystemExit(any(u.find_spec(m) for m in {absent}))"
    assert subprocess.run([serving_python, "-I", "-c", probe], check=False).returncode == 0


def test_the_bento_does_the_main_job(bento_url: str, data_root: Path) -> None:
    photos = images_of(data_root / "cats_dogs")
    support = [(label, path) for label, paths in photos.items() for path in paths[:5]]
    with httpx.Client(base_url=bento_url, timeout=60, trust_env=False) as client:
        assert client.get("/readyz").json()["extractors"][0]["name"] == "efficientnet-lite0"
        taught = client.put("/v1/heads/pets", files=multipart(support))
        assert taught.status_code == 201, taught.text
        asked = multipart([(label, path) for label, paths in photos.items() for path in paths[50:60]])
        predictions = client.post("/v1/heads/pets/predict", files=asked).json()["predictions"]
        right = sum(p["label"] == label for p, (label, _) in zip(predictions, asked, strict=True))
        assert right >= 18
        assert client.get("/").status_code == client.get("/docs").status_code == 200
        advised = client.post("/v1/heads/pets/advise")
        assert advised.json()["scenario"] == 1, advised.text
        queued = client.post("/v1/heads/pets/finetune")
        assert queued.status_code == 202, queued.text
        assert client.get(queued.headers["Location"]).json()["state"] == "queued"


def test_an_installation_serves(
    serving_python: Path, environment: dict[str, str], lite0_folder: Path, tmp_path: Path
) -> None:
    """Last, because it puts Headstart itself into the environment, as docs/guide/install.md does."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("service", "training"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    uv = Path(sys.executable).with_name("uv")
    install = [uv, "pip", "install", "--quiet", "--python", serving_python, "--no-deps", tmp_path]
    subprocess.run(install, check=True)
    home = tmp_path / "home"
    shutil.copytree(lite0_folder, home / "extractors" / lite0_folder.name)
    serve = [
        *(sys.executable, "-m", "tests.docs.serving"),
        *("env", "--unset=PYTHONPATH", f"--chdir={home}", serving_python.with_name("headstart"), "serve"),
    ]
    done = subprocess.run(serve, env=environment | {"HEADSTART_HOME": str(home)}, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert (home / "headstart.db").is_file()
