"""`headstart embed` and `headstart predict` as their user sees them, on a tiny extractor."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors import safe_open

from service.cli import main
from service.commands.folder import SOME_LEFT_OUT
from tests.service.images import png
from training.heads import FitOptions, fit_head, load_head, save_head
from training.image_embedding import ImageEmbedder
from training.manifest import Manifest

Command = Callable[..., Result]
IMAGES = 70


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dark and light images, one file twice, and one that is no image."""
    for number in range(IMAGES):
        path = tmp_path / "images" / ("dark" if number % 2 else "light") / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(256 * number + (40 if number % 2 else 200)))
    images = tmp_path / "images"
    (images / "copy.png").write_bytes((images / "light" / "000.png").read_bytes())
    (images / "broken.png").write_bytes(b"no image")
    (images / "notes.txt").write_text("left alone")
    return images


@pytest.fixture
def run(tmp_path: Path, tiny_folder: Path) -> Command:
    environ = {"HEADSTART_HOME": str(tmp_path / "home"), "HEADSTART_EXTRACTORS": str(tiny_folder)}

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)), env=environ)

    return invoke


def head_file(path: Path, embedder: ImageEmbedder, folder: Path, **options: object) -> Path:
    files = sorted(folder.glob("*/*.png"))[::5]
    rows = np.stack([embedder.embed(embedder.decode(file.read_bytes())) for file in files])
    labels = [file.parent.name for file in files]
    if options.get("task") == "multi_label":
        labels = [{label, "image"} for label in labels]  # type: ignore[misc]
    head = fit_head(
        rows,
        labels,
        extractor_digest=embedder.manifest.digest,
        layer_dims=embedder.manifest.layer_dims,
        options=FitOptions(**options),  # type: ignore[arg-type]
    )
    path.write_bytes(save_head(head))
    return path


def test_embeddings_of_a_folder(run: Command, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.npz"
    result = run("embed", folder, "--output", output, "--processes", 2)
    assert result.exit_code == SOME_LEFT_OUT, result.output
    assert "71 images, 0 from the cache" in result.output
    assert "1 images could not be used" in result.output
    assert "broken.png: not an image" in result.output
    with np.load(output, allow_pickle=False) as found:
        paths = found["paths"].tolist()
        embedder = ImageEmbedder.load(tiny_folder)
        expected = [embedder.embed(embedder.decode((folder / path).read_bytes())) for path in paths]
        np.testing.assert_array_equal(found["embeddings"], expected)
        assert str(found["digest"]) == embedder.manifest.digest
    assert paths == sorted(paths)
    assert len(paths) == IMAGES + 1

    (folder / "broken.png").unlink()
    again = tmp_path / "rows.safetensors"
    result = run("embed", folder, "--output", again)
    assert result.exit_code == 0, result.output
    assert "71 images, 71 from the cache" in result.output
    with safe_open(again, "numpy") as found:
        np.testing.assert_array_equal(found.get_tensor("embeddings"), expected)
        assert json.loads(found.metadata()["paths"]) == paths


def test_predictions_of_a_folder(run: Command, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    embedder = ImageEmbedder.load(tiny_folder)
    head = head_file(tmp_path / "head.safetensors", embedder, folder)
    output = tmp_path / "found.csv"
    result = run("predict", head, folder, "--output", output)
    assert result.exit_code == SOME_LEFT_OUT, result.output
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "label", "probability", "unknown", "typicality"]
    assert len(rows) == IMAGES + 1
    for row in rows:
        embedding = embedder.embed(embedder.decode((folder / row["path"]).read_bytes()))
        expected = load_head(head.read_bytes()).predict(embedding[None])
        assert row["label"] == expected.labels[0]
        assert float(row["probability"]) == expected.probabilities.max()
        assert json.loads(row["unknown"]) == expected.unknown[0]

    several = head_file(tmp_path / "several.safetensors", embedder, folder, task="multi_label")
    lines = tmp_path / "found.ndjson"
    result = run("predict", several, folder, "--output", lines, "--top-k", 2, "--threshold", 1)
    assert result.exit_code == SOME_LEFT_OUT, result.output
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["path"] for row in found] == [row["path"] for row in rows]
    assert all(row["unknown"] and len(row["probabilities"]) == 2 for row in found)
    assert all("image" in row["labels"] for row in found)


def test_what_cannot_be_done_is_told_in_one_line(
    run: Command, folder: Path, second_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    foreign = head_file(tmp_path / "foreign.safetensors", ImageEmbedder.load(second_folder), folder)
    digest = Manifest.load(second_folder).digest
    output = tmp_path / "rows.npz"
    for arguments, message in (
        (("embed", tmp_path / "empty", "--output", output), "expected images, found none"),
        (("embed", folder, "--output", output, "--extractor", "nothing"), "nothing"),
        (("embed", folder, "--output", tmp_path / "no" / "rows.npz"), "folder that exists"),
        (("predict", "pets", folder), "--url"),
        (("predict", folder / "notes.txt", folder), "head file"),
        (("predict", foreign, folder), digest),
        (("predict", "pets", folder, "--url", "http://127.0.0.1:9"), "refused"),
        (("predict", "pets", folder, "--header", "nothing"), "Name: value"),
    ):
        result = run(*arguments)
        assert result.exit_code in (1, 2), result.output
        assert message in result.output
        assert not isinstance(result.exception, BaseException) or isinstance(result.exception, SystemExit)
    assert not output.exists()
    only_bad = tmp_path / "bad"
    only_bad.mkdir()
    (only_bad / "a.png").write_bytes(b"no image")
    result = run("embed", only_bad, "--output", output)
    assert result.exit_code == 1
    assert "none of 1 images could be used" in result.output


def test_without_ray_its_engine_names_what_to_install(
    run: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("embed", folder, "--output", tmp_path / "rows.npz", "--engine", "ray")
    assert result.exit_code == 1
    assert "install requirements/ray.txt, or the extra `ray`" in result.output
    result = run("embed", folder, "--output", tmp_path / "rows.npz", "--address", "auto")
    assert result.exit_code == 2
    assert "--engine ray" in result.output


@pytest.mark.long
def test_a_killed_command_goes_on_and_leaves_no_process(
    data_root: Path, lite0_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((data_root / "cats_dogs" / "cat").glob("*.jpg"))[:400]:
        (folder / path.name).symlink_to(path)
    environ = os.environ | {
        "HEADSTART_HOME": str(tmp_path / "home"),
        "HEADSTART_EXTRACTORS": str(lite0_folder),
    }
    output = tmp_path / "rows.npz"
    command = [sys.executable, "-m", "service.cli", "embed", str(folder), "--output", str(output)]
    cache = tmp_path / "home" / "cache" / "embeddings"
    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(cache.glob("*/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    assert not output.exists()
    while any(is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(child) for child in children)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    cached = int(done.stderr.split("400 images, ")[1].split()[0])
    assert 64 <= cached < 400
    with np.load(output) as found:
        assert found["embeddings"].shape == (400, 1280)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
