"""An export gives a folder that reproduces the network, or no folder at all."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.imagenet_sample import score
from service.embedding.extractor import Extractor
from tests.training.images import scene
from training import export
from training.backbones import CATALOGUE, WeightsChoice, load_backbone
from training.classifier import Classifier
from training.errors import ExportError, ManifestError, WeightsError
from training.export import PARITY_BOUND, check_parity, export_extractor, is_exported
from training.golden import GOLDEN_BOUND, Golden, relative_error, rows_error
from training.graph import PixelsToRow
from training.manifest import FILES, TAPS_OUTPUT, Manifest, Preprocess
from training.preprocess import decode_image
from training.runtime import onnxruntime
from training.source import SourceStatistics

LITE0 = "efficientnet-lite0"
REPOSITORY = Path(__file__).resolve().parents[2]
# One of torchvision's is exported each time; HEADSTART_TEST_ALL_NETWORKS=1 (`make test-networks`) exports
# every one, in 3 minutes.
ALL = [name for name, entry in CATALOGUE.items() if entry.family == "torchvision"]
EXPORTED = ALL if os.environ.get("HEADSTART_TEST_ALL_NETWORKS") == "1" else ["resnet50"]

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def embedder(folder: Path) -> Embed:
    manifest = Manifest.load(folder)
    session = onnxruntime.InferenceSession(folder / FILES.model, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([manifest.output.name], {manifest.input.name: pixels})[0]


def row_maker(folder: Path) -> Embed:
    name = Manifest.load(folder).input.name
    session = onnxruntime.InferenceSession(folder / FILES.model, providers=["CPUExecutionProvider"])
    return lambda pixels: np.concatenate(session.run(None, {name: pixels}), axis=1)


def golden_error(folder: Path, spec: Preprocess | None = None) -> float:
    golden, manifest = Golden.load(folder), Manifest.load(folder)
    found = row_maker(folder)(golden.pixels(spec or manifest.preprocess))
    return rows_error(found, golden.rows, manifest.layer_dims)


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def nothing_but(folder: Path) -> bool:
    """Whether the folder's parent holds only complete extractors and locks."""
    others = [path.name for path in folder.parent.iterdir() if path != folder]
    return all(name.endswith(".lock") for name in others)


def test_the_default_extractor_sees_what_its_network_was_trained_to_see(
    lite0_folder: Path, data_root: Path
) -> None:
    result = score(lite0_folder, data_root)
    assert result.images == 250
    assert result.top1 >= 0.89


def test_an_extractor_gives_its_golden_embeddings(random_folder: Path) -> None:
    assert golden_error(random_folder) < 1e-4


def test_an_extractor_that_another_decoder_exported_is_far_from_the_bound(lite0_folder: Path) -> None:
    """It may be of an earlier version, whose resampler rounded another way: that is about 0.015."""
    assert golden_error(lite0_folder) < GOLDEN_BOUND / 2


@pytest.mark.parametrize(
    "change", [{"resize_short_side_px": 224}, {"interpolation": "bilinear", "resize_short_side_px": 240}]
)
def test_wrong_preprocessing_exceeds_the_golden_bound(lite0_folder: Path, change: dict[str, object]) -> None:
    right = Manifest.load(lite0_folder).preprocess
    assert golden_error(lite0_folder, Preprocess(**(vars(right) | change))) > 2 * GOLDEN_BOUND


def test_golden_inputs_differ_in_what_they_embed_to(lite0_folder: Path) -> None:
    """Inputs that look alike to the network would prove little."""
    embeddings = Golden.load(lite0_folder).rows[:, : Manifest.load(lite0_folder).output.dim]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert np.triu(unit @ unit.T, 1).max() < 0.9


def test_the_graph_takes_pixels_and_any_batch(random_folder: Path) -> None:
    manifest = Manifest.load(random_folder)
    session = onnxruntime.InferenceSession(random_folder / FILES.model, providers=["CPUExecutionProvider"])
    (graph_input,), (output, taps) = session.get_inputs(), session.get_outputs()
    assert (graph_input.name, graph_input.type) == ("images", "tensor(uint8)")
    assert graph_input.shape[1:] == [manifest.input.height, manifest.input.width, 3]
    assert (output.name, output.type, output.shape[1:]) == (
        "embedding",
        "tensor(float)",
        [manifest.output.dim],
    )
    assert (taps.name, taps.type, taps.shape[1:]) == (TAPS_OUTPUT, "tensor(float)", [448])
    pixels = np.random.default_rng(0).integers(0, 256, (7, 224, 224, 3), np.uint8)
    embed = embedder(random_folder)
    together = embed(pixels)
    for size in (1, 3):
        parts = np.concatenate([embed(pixels[i : i + size]) for i in range(0, 7, size)])
        assert relative_error(parts, together) < 1e-5


def test_the_model_is_one_file_without_traces_of_the_machine(random_folder: Path) -> None:
    content = (random_folder / FILES.model).read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", Manifest.load(random_folder).opset)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    for trace in (b"site-packages", str(REPOSITORY).encode(), b".py", b"stack_trace", b"torch.nn"):
        assert trace not in content
    assert {path.name for path in random_folder.iterdir()} == {
        FILES.manifest,
        FILES.model,
        FILES.golden,
        FILES.classifier,
        FILES.source,
    }


def test_a_second_run_does_nothing_and_needs_no_torch(random_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in random_folder.iterdir()}
    code = (
        "import sys; from pathlib import Path; from training.export import export_extractor;"
        f"export_extractor('{LITE0}', Path(sys.argv[1]), random_seed=0);"
        "sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(random_folder)], cwd=REPOSITORY, check=False)
    assert ran.returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in random_folder.iterdir()}


@pytest.mark.long
def test_force_exports_the_same_bytes_again(random_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in random_folder.iterdir()}
    written = (random_folder / FILES.model).stat().st_mtime_ns
    stages: list[tuple[str, float]] = []
    export_extractor(
        LITE0, random_folder, random_seed=0, force=True, progress=lambda *stage: stages.append(stage)
    )
    assert (random_folder / FILES.model).stat().st_mtime_ns > written
    assert {path.name: path.read_bytes() for path in random_folder.iterdir()} == before
    assert nothing_but(random_folder)
    fractions = [fraction for _, fraction in stages]
    assert (fractions[0], fractions[-1], fractions == sorted(fractions)) == (0.0, 1.0, True)


def test_another_extractor_is_not_replaced_unasked(random_folder: Path) -> None:
    """Heads that were trained on it would no longer fit."""
    for options in ({"random_seed": 1}, {"weights_sha256": "0" * 64}, {}):
        with pytest.raises(ExportError, match="--force"):
            export_extractor(LITE0, random_folder, **options)
    with pytest.raises(ExportError, match=f"another extractor: {LITE0}"):
        export_extractor("resnet50", random_folder, random_seed=0)
    assert is_exported(random_folder)


def test_a_users_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    for force in (False, True):
        with pytest.raises(ExportError, match="not an extractor folder"):
            export_extractor(LITE0, tmp_path / "photos", random_seed=0, force=force)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"precious"
    assert nothing_but(tmp_path / "photos")


@pytest.mark.parametrize("name", [FILES.model, FILES.golden, FILES.classifier, FILES.source])
def test_an_altered_or_missing_file_is_noticed(random_folder: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(random_folder, tmp_path / "copy")
    assert is_exported(folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert not is_exported(folder)
    with pytest.raises(ManifestError, match=name):
        Manifest.load(folder).verify_files(folder)
    (folder / name).unlink()
    assert not is_exported(folder)


def test_what_is_no_folder_is_not_exported(tmp_path: Path) -> None:
    assert not is_exported(tmp_path / "absent")
    assert not is_exported(tmp_path)


def test_a_damaged_folder_is_exported_again(
    random_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing itself is replaced here: it is tested above, and costs ten seconds."""
    folder = copy_of(random_folder, tmp_path / "copy")
    (folder / FILES.model).write_bytes(b"damaged")

    def write(entry: object, choice: object, partial: Path, *rest: object) -> Manifest:
        for path in random_folder.iterdir():
            (partial / path.name).write_bytes(path.read_bytes())
        return Manifest.load(partial)

    monkeypatch.setattr(export, "_write", write)
    export_extractor(LITE0, folder, random_seed=0)
    assert is_exported(folder)
    assert nothing_but(folder)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        export_extractor(LITE0, tmp_path / "lite0", weights_sha256="0" * 64)
    assert nothing_but(tmp_path / "lite0")
    assert not (tmp_path / "lite0").exists()


def test_an_export_that_is_killed_leaves_no_folder(tmp_path: Path) -> None:
    """Killed in a process of its own, after the model is written; the next run then starts from nothing."""
    folder = tmp_path / "lite0"
    code = (
        "import os, signal, sys; from pathlib import Path; from training import export\n"
        "def write(entry, choice, partial, *rest):\n"
        "    (partial / export.FILES.model).write_bytes(b'graph'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "export._write = write\n"
        f"export.export_extractor('{LITE0}', Path(sys.argv[1]), random_seed=0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=REPOSITORY, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert (tmp_path / ".lite0.partial" / FILES.model).exists()  # it had got that far
    assert not folder.exists()
    assert not is_exported(folder)

    class StopHere(Exception):
        pass

    def stop(stage: str, fraction: float) -> None:
        assert not list((tmp_path / ".lite0.partial").iterdir())
        raise StopHere

    with pytest.raises(StopHere):
        export_extractor(LITE0, folder, random_seed=0, progress=stop)
    assert nothing_but(folder)
    assert not folder.exists()


def test_the_parity_check_notices_another_network(random_folder: Path) -> None:
    pixels = Golden.load(random_folder).pixels(Manifest.load(random_folder).preprocess)
    same = PixelsToRow(load_backbone(LITE0, WeightsChoice(random_seed=0)))
    assert check_parity(random_folder / FILES.model, same, pixels) < PARITY_BOUND / 10
    other = PixelsToRow(load_backbone(LITE0, WeightsChoice(random_seed=1)))
    with pytest.raises(ExportError, match="does not reproduce"):
        check_parity(random_folder / FILES.model, other, pixels)


def test_normalisation_in_the_graph_is_that_of_the_manifest(lite0_folder: Path) -> None:
    """The reference: floats normalised outside, through the network alone."""
    import torch

    backbone, spec = load_backbone(LITE0), Manifest.load(lite0_folder).preprocess
    pixels = np.stack([np.asarray(scene(224, 224)), np.asarray(scene(224, 224))[::-1]])
    normalised = (pixels.astype(np.float32) - np.float32(spec.mean)) / np.float32(spec.std)
    with torch.inference_mode():
        expected = backbone.module(torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())).numpy()
    assert relative_error(embedder(lite0_folder)(pixels), expected) < 1e-5


def test_the_classifier_on_disk_is_the_networks_own(lite0_folder: Path) -> None:
    found, expected = Classifier.load(lite0_folder), load_backbone(LITE0).classifier
    assert found.classes == expected.classes
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.bias, expected.bias)


@pytest.mark.parametrize("name", EXPORTED)
def test_torchvisions_networks_export(name: str, tmp_path: Path) -> None:
    Image.effect_noise((400, 300), 60).convert("RGB").save(tmp_path / "image.jpg")
    folder = tmp_path / name
    manifest = export_extractor(name, folder, random_seed=0, parity_images=[tmp_path / "image.jpg"])
    assert manifest == Manifest.load(folder)
    assert (manifest.name, manifest.output.dim) == (name, CATALOGUE[name].dim)
    assert is_exported(folder)
    assert golden_error(folder) < 1e-3
    pixels = decode_image((tmp_path / "image.jpg").read_bytes(), manifest.preprocess)
    assert embedder(folder)(np.stack([pixels] * 3)).shape == (3, manifest.output.dim)
    assert row_maker(folder)(np.stack([pixels] * 3)).shape == (3, manifest.width)
    assert (FILES.source in manifest.files) == (SourceStatistics.load(folder) is not None)
    loaded = Extractor.load(folder)  # as the service does, golden inputs and all
    row = loaded.embed([loaded.decode((tmp_path / "image.jpg").read_bytes())])
    assert row.shape == (1, manifest.width)
    assert row[:, : CATALOGUE[name].dim].std() > 0


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    assert SourceStatistics.load(tmp_path) is None
    for read, name in (
        (Golden.load, FILES.golden),
        (Classifier.load, FILES.classifier),
        (SourceStatistics.load, FILES.source),
    ):
        if name != FILES.source:
            with pytest.raises(ManifestError, match=name):
                read(tmp_path)
        np.savez(tmp_path / name, other=np.zeros(3))
        with pytest.raises(ManifestError, match=name):
            read(tmp_path)
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(ManifestError, match=name):
            read(tmp_path)


@pytest.mark.long
def test_an_extractor_without_taps_is_the_same_without_them(random_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    manifest = export_extractor(LITE0, folder, random_seed=0, taps=False)
    assert (manifest.taps, manifest.width) == ((), 1280)
    assert FILES.source not in manifest.files
    pixels = Golden.load(folder).pixels(manifest.preprocess)
    rows = row_maker(random_folder)(pixels)
    assert relative_error(row_maker(folder)(pixels), rows[:, :1280]) < 1e-5
    with pytest.raises(ExportError, match=r"without taps.*--force"):
        export_extractor(LITE0, folder, random_seed=0)
    with pytest.raises(ExportError, match=r"with taps.*--force"):
        export_extractor(LITE0, random_folder, random_seed=0, taps=False)


def test_the_error_of_a_row_is_that_of_its_worst_layer() -> None:
    expected = np.array([[100.0, 0.0, 1.0, 0.0]], np.float32)
    found = expected + np.float32([[0, 0, 0.1, 0]])
    assert relative_error(found, expected) < 0.002
    assert rows_error(found, expected, {"embedding": 2, "stage2": 2}) == pytest.approx(0.1)
    assert rows_error(found, expected, {"embedding": 2}) == float("inf")


def test_relative_error() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 10.0]], np.float32)
    assert relative_error(rows, rows) == 0
    assert relative_error(rows + np.float32([[0, 0], [0, 1]]), rows) == pytest.approx(0.1)
    assert relative_error(rows[:1], rows) == float("inf")
    assert relative_error(rows * np.nan, rows) == float("inf")
