"""The guide to exports: its commands run, and its program answers as the service does, without Headstart."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.main_job import images_of, multipart
from benchmarks.server import Server, running
from tests.docs.pages import ROOT, shell_blocks
from tests.docs.shell import run_script

PAGE = ROOT / "docs" / "guide" / "export.md"
GUIDE = PAGE.read_text()
TOLERANCE = 1.5e-4  # the 1e-4 of the graph, and the four digits that the program prints
JPEG_TOLERANCE = 1e-2  # the service resamples them by other code, which rounds some pixels another way


@pytest.fixture(scope="module")
def server(lite0_folder: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("home"), extractor=lite0_folder) as server:
        photos = images_of(data_root / "cats_dogs")
        support = [(label, path) for label, paths in photos.items() for path in paths[:5]]
        with server.client() as client:
            assert client.put("/v1/heads/pets", files=multipart(support)).status_code == 201
        yield server


def noise(width: int, height: int, bands: int = 3) -> Image.Image:
    """Smooth colours from a fixed seed: something of every size."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, bands), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    noise(400, 300).save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


def stored(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


IMAGES = {
    "wide.png": lambda: stored(noise(501, 300), "PNG"),
    "tall.png": lambda: stored(noise(257, 900), "PNG"),
    "small.png": lambda: stored(noise(31, 20), "PNG"),
    "transparent.png": lambda: stored(noise(320, 300, 4), "PNG"),
    "grey.png": lambda: stored(noise(300, 300).convert("L"), "PNG"),
    "palette.gif": lambda: stored(noise(300, 300).convert("P"), "GIF"),
    "turned.jpg": turned,
}


def test_the_commands_and_the_program(server: Server, data_root: Path, tmp_path: Path) -> None:
    for block in shell_blocks(PAGE):
        if "curl" in block.text:
            run_script(block.text, server, tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "classify.py").write_text(program)
    for name, make in IMAGES.items():
        (tmp_path / name).write_bytes(make())
    shutil.copy(images_of(data_root / "cats_dogs")["cat"][99], tmp_path / "new.jpg")
    (asked,) = re.findall(r"^python (.*)$", GUIDE, re.MULTILINE)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    worst = 0.0
    for name in [*IMAGES, "new.jpg"]:
        command = [sys.executable, "-P", "-W", "error", *asked.replace("new.jpg", name).split()]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        label, probability, typicality, verdict = done.stdout.split()
        with server.client() as client:
            files = {"image": (name, (tmp_path / name).read_bytes())}
            (expected,) = client.post("/v1/heads/pets/predict", files=files).json()["predictions"]
        assert (label, verdict == "unknown") == (expected["label"], expected["unknown"]), name
        difference = max(
            abs(float(probability) - expected["probability"]), abs(float(typicality) - expected["typicality"])
        )
        tolerance = JPEG_TOLERANCE if name.endswith(".jpg") else TOLERANCE
        assert difference < tolerance, (name, json.dumps(expected))
        worst = max(worst, difference)
    print(f"largest difference {worst:.1e}")


def test_the_program_needs_no_headstart() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    modules = set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE))
    assert modules == {"json", "sys", "numpy", "onnxruntime", "PIL"}


def test_the_copied_head_predicts_the_same(server: Server, data_root: Path) -> None:
    files = [("image", ("a.jpg", images_of(data_root / "cats_dogs")["dog"][99].read_bytes()))]
    with server.client() as client:
        answers = [
            client.post(f"/v1/heads/{name}/predict", files=files).json()["predictions"]
            for name in ("pets", "copy")
        ]
    assert answers[0] == answers[1]
