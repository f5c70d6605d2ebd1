"""A tiny, deterministic extractor, and an engine on it: the whole service in a second, without a network."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.config import Settings
from service.engine import Engine
from service.ingest import Batch, Input
from service.preparation import prepare
from tests.service.images import png
from training.export import EXPORT_VERSION
from training.golden import Golden
from training.manifest import (
    FILES,
    FORMAT_VERSION,
    TAPS_OUTPUT,
    Manifest,
    Output,
    Preprocess,
    Tap,
    Weights,
    sha256_of,
)
from training.manifest import Input as GraphInput
from training.preprocess import decode_image
from training.tuned import TunedOn

SIDE = 8
DIM = 16
SPEC = Preprocess("exact", None, SIDE, SIDE, "bilinear", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


def _graph(weights: np.ndarray, taps: int) -> onnx.ModelProto:
    """The first columns of a projection as embedding, the last ones as taps, if there are any."""
    width = weights.shape[1]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["row"]),
        helper.make_node("Split", ["row", "parts"], ["embedding", TAPS_OUTPUT], axis=1)
        if taps
        else helper.make_node("Identity", ["row"], ["embedding"]),
    ]
    outputs = {"embedding": width - taps, TAPS_OUTPUT: taps}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", dim])
            for name, dim in outputs.items()
            if dim
        ],
        [
            numpy_helper.from_array(np.array([-1, SIDE * SIDE * 3], np.int64), "shape"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([width - taps, taps], np.int64), "parts"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def tiny_extractor(
    folder: Path,
    name: str = "tiny",
    seed: int = 0,
    *,
    mirrored: bool = False,
    taps: Sequence[Tap] = (),
    tuned_on: Sequence[bytes] = (),
) -> Path:
    """Write an extractor folder: a fixed random projection of 8 x 8 pixels to 16 dimensions, and to taps.

    A `mirrored` one cannot tell left from right. `tuned_on` are inputs that it says it was trained on.
    """
    folder.mkdir(parents=True)
    tapped = sum(tap.dim for tap in taps)
    cells = np.random.default_rng(seed).normal(size=(SIDE, SIDE, 3, DIM + tapped)).astype(np.float32)
    weights = (cells + cells[:, ::-1] if mirrored else cells).reshape(-1, DIM + tapped)
    onnx.save(_graph(weights, tapped), folder / FILES.model)
    inputs = tuple(png(shade) for shade in (10, 120, 240))
    pixels = np.stack([decode_image(data, SPEC) for data in inputs]).reshape(len(inputs), -1)
    Golden(inputs, pixels.astype(np.float32) @ weights).save(folder)
    if tuned_on:
        TunedOn.of(hashlib.sha256(data).hexdigest() for data in tuned_on).save(folder)
    files = (FILES.model, FILES.golden, *([FILES.tuned] if tuned_on else []))
    Manifest(
        format_version=FORMAT_VERSION,
        export_version=EXPORT_VERSION,
        name=name,
        modality="image",
        architecture="random projection",
        weights=Weights("random", "0" * 64, "Apache-2.0"),
        input=GraphInput(SIDE, SIDE),
        preprocess=SPEC,
        output=Output(DIM),
        taps=tuple(taps),
        opset=18,
        files={name: sha256_of(folder / name) for name in files},
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default extractor of these tests."""
    return tiny_extractor(tmp_path_factory.mktemp("extractors") / "tiny")


@pytest.fixture(scope="session")
def second_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another extractor, which no server has loaded."""
    return tiny_extractor(tmp_path_factory.mktemp("extractors") / "second", "second", seed=1)


@pytest.fixture(scope="session")
def tapped_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extractor with taps."""
    taps = (Tap("stage2", 3), Tap("stage3", 5))
    return tiny_extractor(tmp_path_factory.mktemp("extractors") / "tapped", "tapped", seed=2, taps=taps)


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path, chosen_database_url: str) -> Settings:
    return Settings(
        home=tmp_path / "home", database_url=chosen_database_url, extractors=(str(tiny_folder),), threads=2
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    prepare(settings)
    engine = Engine.start(settings)
    yield engine
    engine.close()


def batch(*labelled: tuple[str, bytes]) -> Batch:
    """A batch as ingestion would read it."""
    inputs = tuple(Input(i, data, (label,), f"{i}.png") for i, (label, data) in enumerate(labelled))
    return Batch(inputs=inputs, rejected=(), total=len(inputs))
