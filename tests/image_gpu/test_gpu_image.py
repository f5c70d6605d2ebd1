"""The GPU image of docs/guide/gpu.md on a machine without a GPU: what it holds, and what it says there.

Run by `make image-gpu-test`.
"""

import json
from pathlib import Path

import pytest

from benchmarks.main_job import images_of, multipart
from tests.image.conftest import HARDENED, OPEN, Start
from tests.image.lab import Lab

UID = "1034"
HOLDS = """
import importlib.util, sys
import onnxruntime
onnxruntime.preload_dlls()
present = [name for name in ("torch", "torchvision", "tensorflow") if importlib.util.find_spec(name)]
print(present, "CUDAExecutionProvider" in onnxruntime.get_available_providers())
"""
# What onnxruntime's provider for CUDA is linked against, but for the driver's own library.
LINKED = """
import ctypes, pathlib
import onnxruntime
onnxruntime.preload_dlls()
folder = pathlib.Path(onnxruntime.__file__).parent / "capi"
ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
"""


@pytest.fixture(autouse=True, scope="module")
def _without_gpu() -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver; make test-gpu is for it")


def test_left_the_choice_it_takes_the_cpu_says_so_and_does_the_main_job_without_rights(
    lab: Lab, start: Start, image: str, data_root: Path
) -> None:
    photos = images_of(data_root / "cats_dogs")
    container = start(OPEN | {"HEADSTART_DEVICE": "auto"})
    log = lab.podman("logs", container.name)
    said = log.stdout + log.stderr
    assert "no NVIDIA driver" in said, said
    with container.client() as client:
        assert client.get("/readyz").json()["extractors"][0]["provider"] == "CPUExecutionProvider"
        taught = [(label, path) for label, paths in photos.items() for path in paths[:3]]
        assert client.put("/v1/heads/pets", files=multipart(taught)).status_code == 201
        answer = client.post("/v1/heads/pets/predict", content=photos["cat"][10].read_bytes())
        assert answer.json()["predictions"][0]["label"] == "cat", answer.text
    (described,) = json.loads(lab.podman("image", "inspect", image).stdout)
    assert described["Config"]["User"] == f"{UID}:{UID}"
    assert container.run("id", "-u").stdout.strip() == UID
    for place in ("/opt/headstart/src/service/x", "/opt/headstart/venv/x", "/usr/x"):
        refused = container.run("touch", place, check=False)
        assert "Read-only file system" in refused.stderr, (place, refused)


def test_asked_for_cuda_it_refuses_to_start_and_says_what_is_missing(
    lab: Lab, image: str, volume: str
) -> None:
    (described,) = json.loads(lab.podman("image", "inspect", image).stdout)
    assert "HEADSTART_DEVICE=cuda" in described["Config"]["Env"]
    options = [*HARDENED, f"--volume={volume}:/data", "--env=HEADSTART_ALLOW_ANONYMOUS=true"]
    refused = lab.podman("run", "--rm", *options, image, check=False)
    assert refused.returncode == 1
    assert "no NVIDIA driver" in refused.stderr
    assert "HEADSTART_DEVICE=cpu" in refused.stderr.strip().splitlines()[-1], refused.stderr


def test_it_has_cuda_and_no_torch(lab: Lab, image: str) -> None:
    run = ["run", "--rm", *HARDENED, "--tmpfs=/tmp", "--entrypoint=python", image, "-c"]
    assert lab.podman(*run, HOLDS).stdout.strip().endswith("[] True")
    linked = lab.podman(*run, LINKED, check=False)
    # All of CUDA and cuDNN is found; the driver is what the container toolkit brings.
    assert linked.returncode == 0 or "libcuda.so.1" in linked.stderr, linked.stderr
