"""HEADSTART_PRECISION: what serves, what is refused, and that old heads go on with the rows they know."""

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from service.cli import main
from service.config import Settings
from service.devices.local import LocalDevice
from service.embedding.extractor import Extractor
from service.embedding.precision import chosen_precision, precision_with_digest
from service.preparation import prepare
from tests.service.images import png
from tests.service.variants import tiny_variant
from training.errors import DeviceError, ManifestError
from training.golden import Golden
from training.variant import Variant, VariantFiles

CPU = LocalDevice("cpu")
GPU = LocalDevice("cuda")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """An extractor with an int8 variant."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    tiny_variant(folder, "int8")
    return folder


def test_auto_takes_what_is_fast_on_the_device(folder: Path) -> None:
    tiny_variant(folder, "fp16")
    assert chosen_precision(folder, "auto", CPU) == "int8"
    assert chosen_precision(folder, "auto", GPU) == "fp16"
    assert chosen_precision(folder, "fp32", CPU) == "fp32"
    assert chosen_precision(folder, "fp16", CPU) == "fp16"


def test_nothing_quantised_is_fp32(tiny_folder: Path) -> None:
    assert chosen_precision(tiny_folder, "auto", CPU) == "fp32"
    assert chosen_precision(tiny_folder, "auto", GPU) == "fp32"


def test_auto_leaves_out_what_did_not_pass(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_variant(folder, "int8", passed=False)
    with caplog.at_level(logging.WARNING, "headstart.precision"):
        assert chosen_precision(folder, "auto", CPU) == "fp32"
        assert chosen_precision(folder, "int8", CPU) == "int8"
    assert "has not passed its gate; serving fp32" in caplog.text
    assert "has not passed its gate; serving int8" in caplog.text


def test_int8_is_refused_on_a_gpu(folder: Path) -> None:
    with pytest.raises(DeviceError, match="HEADSTART_PRECISION=int8 is for CPUs"):
        chosen_precision(folder, "int8", GPU)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_precision_that_is_not_there_stops_the_start(settings: Settings, precision: str) -> None:
    with pytest.raises(ManifestError, match=rf"no {precision} variant.*headstart quantise tiny --images"):
        prepare(replace(settings, precision=precision))


def test_a_variant_is_another_extractor_in_the_same_folder(folder: Path) -> None:
    wide, narrow = Extractor.load(folder), Extractor.load(folder, precision="int8")
    assert (wide.precision, narrow.precision) == ("fp32", "int8")
    assert narrow.digest == Variant.load(folder, "int8").digest != wide.digest
    pixels = wide.decode(png(3))
    assert not np.allclose(wide.embed([pixels]), narrow.embed([pixels]))
    served = onnxruntime.InferenceSession(narrow.model(), providers=["CPUExecutionProvider"])
    rows = served.run(["embedding"], {"images": pixels[np.newaxis]})[0]
    np.testing.assert_allclose(narrow.embed([pixels]), rows, rtol=1e-5)
    assert precision_with_digest(folder, wide.digest) == "fp32"
    assert precision_with_digest(folder, narrow.digest) == "int8"
    assert precision_with_digest(folder, "0" * 64) is None


@pytest.mark.parametrize("name", ["model.int8.onnx", "golden.int8.npz"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_variant_stops_the_start(settings: Settings, folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "truncated" else data[:-1] + b"?")
    if damage == "missing":
        path.unlink()
    for precision in ("auto", "int8"):
        with pytest.raises(ManifestError, match=rf"{name} is missing or was altered.*headstart quantise"):
            prepare(replace(settings, extractors=(str(folder),), precision=precision))
    prepare(replace(settings, extractors=(str(folder),), precision="fp32"))


def test_a_record_of_another_extractor_stops_the_start(settings: Settings, folder: Path) -> None:
    record = json.loads((folder / "int8.json").read_text())
    (folder / "int8.json").write_text(json.dumps({**record, "manifest": "0" * 64}))
    with pytest.raises(ManifestError, match=r"is of the extractor 000000000000.*headstart quantise tiny"):
        prepare(replace(settings, extractors=(str(folder),)))


def test_other_golden_rows_are_refused(folder: Path) -> None:
    files = VariantFiles.of("int8")
    golden = Golden.load(folder, files.golden)
    Golden(golden.inputs, golden.rows * 1.2).save(folder, files.golden)
    variant = Variant.load(folder, "int8")
    data = (folder / files.golden).read_bytes()
    changed = {**variant.files, files.golden: hashlib.sha256(data).hexdigest()}
    replace(variant, files=changed).save(folder)
    with pytest.raises(ManifestError, match="tiny in int8: the golden inputs give other embeddings"):
        Extractor.load(folder, precision="int8")


def run(*arguments: str, home: Path) -> tuple[int, str]:
    found = CliRunner().invoke(main, ["quantise", *arguments], env={"HEADSTART_HOME": str(home)})
    return found.exit_code, found.output


def test_the_command_says_what_is_wrong(tiny_folder: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "cat").mkdir(parents=True)
    (images / "cat" / "1.png").write_bytes(png(1))
    code, shown = run(str(tiny_folder), "--images", str(images), home=tmp_path)
    assert code == 1
    assert "cat alone" in shown
    code, shown = run(str(tiny_folder), "--images", str(tmp_path / "none"), home=tmp_path)
    assert code == 2
    assert "does not exist" in shown
    (images / "dog").mkdir()
    for number in range(20):
        (images / "dog" / f"{number}.png").write_bytes(png(number))
        (images / "cat" / f"{number}.png").write_bytes(png(100 + number))
    code, shown = run("nothing", "--images", str(images), home=tmp_path)
    assert code == 1
    assert "no extractor in" in shown
    code, shown = run(str(tiny_folder), "--images", str(images), home=tmp_path)
    assert code == 1
    assert "convolutions, found 0" in shown


def test_the_command_prints_the_gate(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    for label, low in (("dark", 0), ("bright", 150)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "images" / label / f"{i}.png").write_bytes(png(low + 9 * i))
    code, shown = run(str(folder), "--images", str(tmp_path / "images"), "--precision", "fp16", home=tmp_path)
    assert code == 0, shown
    variant = Variant.load(folder, "fp16")
    assert f"embedding       {variant.gate.cosines['embedding']:.4f}" in shown
    assert "mean of 10 draws" in shown
    assert variant.digest[:12] in shown
