"""Variants: made from images, true to the float extractor, judged, and never taken for something else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.training.images import encode, scene
from tests.training.networks import small_extractor, small_graph
from training.errors import ExportError, ManifestError, SupportSetError, TooFewClassesError
from training.gate import pass_gate
from training.golden import Golden
from training.image_embedding import ImageEmbedder
from training.image_folder import ImageFolder
from training.int8_graph import quantise_graph
from training.manifest import Manifest
from training.quantise import Quantised, quantise
from training.variant import Variant, VariantFiles, precisions_in

Made = tuple[Path, dict[str, Quantised]]

CLASSES, EACH = ("bright", "dark", "red"), 16


def picture(label: str, seed: int) -> Image.Image:
    """A noisy scene whose colour tells its class."""
    levels = np.asarray(scene(48, 40)).astype(np.float64)
    levels += np.random.default_rng(seed).normal(0, 20, levels.shape)
    change = {"bright": (60, 60, 60), "dark": (-80, -80, -80), "red": (90, -40, -40)}[label]
    return Image.fromarray((levels + change).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for place, label in enumerate(CLASSES):
        (folder / label).mkdir()
        for seed in range(EACH):
            data = encode(picture(label, EACH * place + seed), "PNG")
            (folder / label / f"{seed}.png").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An extractor folder with both variants."""
    folder = small_extractor(tmp_path_factory.mktemp("extractors") / "small")
    return folder, {p: quantise(folder, ImageFolder.read(pictures), p) for p in ("int8", "fp16")}  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_variant_keeps_what_heads_need(made: Made, precision: str) -> None:
    folder, found = made
    variant = Variant.load(folder, precision)
    assert variant == found[precision].variant
    variant.verify_files(folder)
    assert variant.passed
    assert min(variant.gate.cosines.values()) > 0.995
    assert set(variant.gate.cosines) == {"embedding", "stage2"}
    assert [pair.shots for pair in variant.gate.shots] == [5]  # too few images for 20
    digests = {Manifest.load(folder).digest, *(one.variant.digest for one in found.values())}
    assert len(digests) == 3
    assert precisions_in(folder) == ("fp32", "int8", "fp16")


def test_images_that_calibrate_judge_nothing(made: Made) -> None:
    variant = made[1]["int8"].variant
    assert variant.calibration.images + variant.gate.images == len(CLASSES) * EACH


def test_its_golden_rows_are_its_own(made: Made) -> None:
    folder, _ = made
    files = VariantFiles.of("int8")
    narrow = ImageEmbedder.load(folder).with_model(folder / files.model)
    golden = Golden.load(folder, files.golden)
    found = np.stack([narrow.embed(narrow.decode(data)) for data in golden.inputs])
    np.testing.assert_allclose(found, golden.rows, rtol=1e-4, atol=1e-4)
    assert not np.allclose(golden.rows, Golden.load(folder).rows, rtol=1e-4, atol=1e-4)


def test_convolutions_are_narrow_but_for_the_first_two(made: Made) -> None:
    model = onnx.load(made[0] / VariantFiles.of("int8").model)
    narrow = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(narrow) == 3
    # (pixel - 127) / 128 of a uint8 is a dequantisation: nothing is left of it in floats.
    assert not [node for node in model.graph.node if node.op_type in ("Sub", "Div", "Cast")]
    onnx.checker.check_model(model)


def test_biases_make_up_for_rounding() -> None:
    """Without the correction the mean of a channel is off by its share of the rounded weights."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (24, 32, 32, 3), np.uint8)
    model = small_graph().SerializeToString()
    made = quantise_graph(model, pixels, input_name="images")
    rows = [_rows(graph, pixels) for graph in (model, made)]
    spread = rows[0].std(axis=0).mean()
    assert np.abs(rows[1].mean(axis=0) - rows[0].mean(axis=0)).mean() < 0.1 * spread
    assert made == quantise_graph(model, pixels, input_name="images")


def _rows(model: bytes, pixels: np.ndarray) -> np.ndarray:
    from training.runtime import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["embedding"], {"images": pixels})[0])


def test_a_network_without_convolutions_to_narrow_is_refused() -> None:
    with pytest.raises(ExportError, match="found 2"):
        quantise_graph(
            small_graph(2).SerializeToString(), np.zeros((2, 32, 32, 3), np.uint8), input_name="images"
        )


def test_one_class_is_refused(made: Made, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "red", tmp_path / "red")
    with pytest.raises(TooFewClassesError, match="red alone"):
        quantise(made[0], ImageFolder.read(tmp_path), "int8")


def test_too_few_images_are_refused(made: Made, pictures: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in made[0].iterdir()}
    for label in CLASSES[:2]:
        shutil.copytree(pictures / label, tmp_path / label)
    for seed in range(8, EACH):
        (tmp_path / "dark" / f"{seed}.png").unlink()
    with pytest.raises(SupportSetError, match=r"9 images of each class.*found 8 of dark"):
        quantise(made[0], ImageFolder.read(tmp_path), "int8")
    assert {path.name: path.read_bytes() for path in made[0].iterdir()} == before


def change(**values: object) -> Callable[[dict[str, object]], None]:
    return lambda record: record.update(values)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (change(manifest="0" * 64), "is of the extractor 000000000000, the one in the folder is"),
        (change(format_version=9), "format_version is 9"),
        (change(precision="fp16"), "not the record of a variant in int8"),
        (change(files={"../model.onnx": "0" * 64}), "not the record of a variant in int8"),
        (lambda record: record.pop("gate"), "key gate is missing"),
        (change(gate="good"), "key gate: expected an object"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    made: Made,
    tmp_path: Path,
    damage: Callable[[dict[str, object]], None],
    expected: str,
) -> None:
    folder = Path(shutil.copytree(made[0], tmp_path / "small"))
    path = folder / VariantFiles.of("int8").record
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ManifestError, match=expected) as error:
        Variant.load(folder, "int8")
    assert "headstart quantise small --images FOLDER --precision int8" in str(error.value)


def test_no_record_and_no_json_say_what_to_do(made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made[0], tmp_path / "small"))
    (folder / "int8.json").write_text("{")
    with pytest.raises(ManifestError, match=r"is not JSON.*headstart quantise small"):
        Variant.load(folder, "int8")
    (folder / "int8.json").unlink()
    with pytest.raises(ManifestError, match=r"no int8 variant.*headstart quantise small"):
        Variant.load(folder, "int8")


def test_a_gate_stops_what_is_unlike_the_extractor() -> None:
    rng = np.random.default_rng(0)
    labels = [label for label in CLASSES for _ in range(20)]
    rows = rng.normal(size=(60, 12)).astype(np.float32)
    rows[:, :8] += np.repeat(np.eye(3, 8, dtype=np.float32) * 6, 20, axis=0)
    dims = {"embedding": 8, "stage2": 4}
    assert pass_gate(rows, rows, labels, dims, seeds=2).passed
    worse_tap = rows.copy()
    worse_tap[:, 8:] += rng.normal(size=(60, 4))
    assert not pass_gate(rows, worse_tap, labels, dims, seeds=2).passed
    worse_heads = rows.copy()
    worse_heads[:, :3] = 3 + 0.1 * rows[:, :3]  # hardly a class left, whatever the cosines are
    found = pass_gate(rows, worse_heads, labels, dims, seeds=2)
    assert not found.passed
    assert found.shots[0].variant < found.shots[0].fp32
