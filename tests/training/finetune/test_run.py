"""A whole run on real images: what comes out is an extractor like any other, and judged by unseen inputs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service.embedding.extractor import Extractor
from tests.conftest import cells_options
from training.backbones import WeightsChoice, load_backbone
from training.errors import DeviceError, FinetuneError, FinetuneStoppedError
from training.export import export_extractor, is_exported
from training.finetune import FinetuneOptions, Progress, finetune
from training.finetune.network import load_network
from training.finetune.recipe import recipe_of
from training.finetune.run import Finetuned
from training.graph import PixelsToRow
from training.manifest import FILES, Manifest
from training.tuned import TunedOn

pytestmark = pytest.mark.long

OPTIONS = cells_options()
Run = Callable[..., Finetuned]


@pytest.fixture(scope="module")
def run(cells: tuple[list[bytes], list[str]], lite0_folder: Path) -> Run:
    def carry_out(folder: Path, options: FinetuneOptions = OPTIONS, **more: object) -> Finetuned:
        inputs, labels = cells
        arguments: dict[str, object] = {"source": lite0_folder, "name": "cells"} | more
        return finetune(inputs, labels, run_folder=folder, options=options, **arguments)  # type: ignore[arg-type]

    return carry_out


@pytest.fixture(scope="module")
def tuned(tuned_cells: tuple[Finetuned, list[Progress]]) -> Finetuned:
    return tuned_cells[0]


@pytest.fixture(scope="module")
def told(tuned_cells: tuple[Finetuned, list[Progress]]) -> list[Progress]:
    return tuned_cells[1]


def test_the_result_is_an_extractor_like_any_other(tuned: Finetuned, lite0_folder: Path) -> None:
    assert is_exported(tuned.folder)
    extractor = Extractor.load(tuned.folder)
    source = Manifest.load(lite0_folder)
    assert (extractor.name, extractor.dim) == ("cells", source.output.dim)
    assert extractor.manifest.layer_dims == source.layer_dims
    assert extractor.digest != source.digest
    assert extractor.manifest.weights.source == f"last-blocks of efficientnet-lite0, {source.digest}"
    assert extractor.manifest.weights.licence == source.weights.licence


def test_the_served_graph_gives_what_torch_gives(
    tuned: Finetuned, cells: tuple[list[bytes], list[str]], lite0_folder: Path
) -> None:
    extractor = Extractor.load(tuned.folder)
    pixels = np.stack([extractor.decode(data) for data in cells[0]])
    expected = PixelsToRow(load_network(tuned.folder)).rows(pixels)
    found = extractor.embed(list(pixels))
    head = tuned.head
    torch_says, served = head.predict(expected), head.predict(found)
    np.testing.assert_allclose(served.probabilities, torch_says.probabilities, atol=1e-3)
    kept = Extractor.load(lite0_folder).embed(list(pixels))
    same = slice(extractor.dim, None)  # the taps end before the layers that were trained
    np.testing.assert_allclose(found[:, same], kept[:, same], rtol=1e-3, atol=1e-4)
    assert np.abs(found[:, : extractor.dim] - kept[:, : extractor.dim]).max() > 1e-2


def test_the_head_is_judged_by_inputs_that_no_layer_was_trained_on(
    tuned: Finetuned, cells: tuple[list[bytes], list[str]]
) -> None:
    import hashlib

    report = tuned.report
    keys = [hashlib.sha256(data).hexdigest() for data in cells[0]]
    seen = TunedOn.load(tuned.folder).inputs
    assert seen < set(keys)
    held_out = len(keys) - len(seen)
    assert report["held_out"]["count"] == tuned.head.report.held_out == held_out
    assert report["train"] + report["watched"] == len(seen)
    assert tuned.head.report.examples == len(keys)
    assert report["held_out"]["low"] <= report["held_out"]["difference"] <= report["held_out"]["high"]
    # So few inputs prove nothing.
    assert not tuned.is_better
    json.dumps(report)


def test_progress_only_goes_forward(tuned: Finetuned, told: list[Progress]) -> None:
    fractions = [item.fraction for item in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [item.epoch for item in told if item.epoch] == [1, 2]
    assert {item.stage for item in told} == {"prepare", "frozen-layers", "train", "export", "judge"}


def test_a_tuned_extractor_can_be_tuned_again(tuned: Finetuned, run: Run, tmp_path: Path) -> None:
    again = run(tmp_path / "again", replace(OPTIONS, epochs=1), source=tuned.folder, name="cells-2")
    before, after = (TunedOn.load(folder).inputs for folder in (tuned.folder, again.folder))
    # What it was trained on first stays known, and is not held out the second time.
    assert before <= after
    assert (
        0
        < again.head.report.held_out
        == again.report["held_out"]["count"]
        == again.head.report.examples - len(after)
    )
    assert again.head.extractor_digest != tuned.head.extractor_digest
    assert Manifest.load(again.folder).weights.source.startswith("last-blocks of cells, ")


def test_a_stopped_run_goes_on_and_ends_the_same(tuned: Finetuned, run: Run, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with pytest.raises(FinetuneStoppedError):
        run(tmp_path / "run", should_stop=lambda: next(asked))
    told: list[Progress] = []
    after = run(tmp_path / "run", progress=told.append)
    assert [item.epoch for item in told if item.epoch] == [2]
    expected = torch.load(tuned.folder.parent / "checkpoint.pt", weights_only=True)
    found = torch.load(after.folder.parent / "checkpoint.pt", weights_only=True)
    for name, weight in expected["rest"].items():
        torch.testing.assert_close(found["rest"][name], weight, rtol=1e-4, atol=1e-5)


def test_a_folder_belongs_to_one_run(run: Run, tmp_path: Path, tuned: Finetuned) -> None:
    with pytest.raises(FinetuneError, match="holds another run"):
        run(tuned.folder.parent, replace(OPTIONS, seed=1))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FinetuneError, match="is not empty and holds no run"):
        run(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_the_strategy_head_trains_no_layer(run: Run, tmp_path: Path, lite0_folder: Path) -> None:
    done = run(tmp_path / "run", FinetuneOptions(strategy="head", device="cpu"))
    assert done.folder == lite0_folder
    assert done.head.extractor_digest == Manifest.load(lite0_folder).digest
    assert done.report["held_out"]["difference"] == 0
    assert not done.is_better


def test_recalibration_changes_statistics_and_no_weight(run: Run, tmp_path: Path, lite0_folder: Path) -> None:
    done = run(tmp_path / "run", FinetuneOptions(strategy="recalibrate", device="cpu"))
    before, after = (load_network(folder).module.state_dict() for folder in (lite0_folder, done.folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)
    # It saw no label: every input may be held out.
    assert not (done.folder / FILES.tuned).exists()
    assert done.head.report.held_out == done.head.report.examples


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no CUDA device"):
        run(tmp_path / "run", replace(OPTIONS, device="cuda"))


def test_a_stage_that_is_not_there_is_named() -> None:
    backbone = load_backbone("efficientnet-lite0", WeightsChoice(random_seed=0))
    with pytest.raises(FinetuneError, match=r"expected auto or one of stage2, .*, got 'stage9'"):
        recipe_of(backbone, FinetuneOptions(keep="stage9"), 10)


def test_weights_from_a_file_of_ones_own_are_asked_for(random_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "own"
    shutil.copytree(random_folder, folder)
    manifest = Manifest.load(folder)
    replace(manifest, weights=replace(manifest.weights, source="file mine.pth")).save(folder)
    with pytest.raises(FinetuneError, match=r"was exported from file mine\.pth: give that weights file"):
        load_network(folder)
    replace(manifest, weights=replace(manifest.weights, sha256="0" * 64)).save(folder)
    with pytest.raises(FinetuneError, match="its extractor was exported from 0000"):
        load_network(folder)


def test_weights_from_a_file_travel_with_the_extractor(tmp_path: Path) -> None:
    network = load_backbone("efficientnet-lite0", WeightsChoice(random_seed=3))
    state = dict(network.module.state_dict())
    state["_fc.weight"] = torch.from_numpy(network.classifier.weight)
    state["_fc.bias"] = torch.from_numpy(network.classifier.bias)
    torch.save(state, tmp_path / "mine.pth")
    folder = tmp_path / "extractor"
    manifest = export_extractor("efficientnet-lite0", folder, weights_path=tmp_path / "mine.pth")
    (tmp_path / "mine.pth").unlink()
    assert FILES.weights in manifest.files
    found = load_network(folder)
    assert (found.name, found.weights) == (manifest.name, manifest.weights)
    for name, weight in network.module.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], weight)


def test_many_inputs_keep_fewer_stages_than_few() -> None:
    for name in ("efficientnet-lite0", "resnet50"):
        backbone = load_backbone(name, WeightsChoice(random_seed=0))
        few, many = (recipe_of(backbone, FinetuneOptions(), count).kept for count in (50, 5000))
        stages = [point.name for point in backbone.taps]
        assert stages.index(many) < stages.index(few)  # type: ignore[arg-type]
