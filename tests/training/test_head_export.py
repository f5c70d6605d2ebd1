"""A head in ONNX answers as the head does, in plain onnxruntime."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.main_job import images_of
from service.embedding.extractor import Extractor
from training.errors import ExportError, ExtractorMismatchError
from training.head_export import OPSET, fused_onnx, head_onnx
from training.heads import NEGATIVE_LABEL, TRANSFORMS, FitOptions, Head, fit_head

TOLERANCE = 1e-4
DIM = 64
MULTI = FitOptions(task="multi_label")


def clouds(classes: int, each: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Embeddings around a centre for each class, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    centers = random.normal(size=(classes, DIM))
    embeddings = centers[labels] + random.normal(size=(len(labels), DIM)) + 0.3
    return embeddings.astype(np.float32), [f"class {label:04d}" for label in labels]


def fit(embeddings: np.ndarray, labels: Sequence[str] | Sequence[Collection[str]], **options: object) -> Head:
    return fit_head(embeddings, labels, extractor_digest="0" * 64, options=FitOptions(**options))  # type: ignore[arg-type]


def asked(embeddings: np.ndarray) -> np.ndarray:
    """The examples, inputs unlike all of them, and the ends of float32."""
    random = np.random.default_rng(1)
    dim = embeddings.shape[1]
    extremes = np.array([[0.0], [-0.0], [1e36], [-1e36], [1e-44], [1e-20]]) * np.ones(dim)
    return np.concatenate((embeddings, random.normal(size=(40, dim)) * 3, extremes)).astype(np.float32)


def answers(model: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def largest_difference(head: Head, found: dict[str, np.ndarray], embeddings: np.ndarray) -> float:
    """Between the graph's numbers and the head's own; that they agree on what is unknown is asserted."""
    expected = head.predict(embeddings)
    differences = [
        np.abs(found["probabilities"] - expected.probabilities),
        np.abs(found["typicality"] - expected.typicality),
    ]
    assert ("none_probability" in found) == head.negatives
    if expected.negative is not None:
        differences.append(np.abs(found["none_probability"] - expected.negative))
    near = np.abs(expected.typicality - head.unknown_threshold) < TOLERANCE
    np.testing.assert_array_equal(found["unknown"][~near], expected.unknown[~near])
    return max(float(difference.max()) for difference in differences)


def negatives() -> tuple[np.ndarray, list[str]]:
    embeddings, labels = clouds(5, 8)
    return embeddings, [NEGATIVE_LABEL if label == "class 0004" else label for label in labels]


def several() -> tuple[np.ndarray, list[list[str]]]:
    embeddings, labels = clouds(4, 8)
    return embeddings, [[label, "even"] if row % 2 else [label] for row, label in enumerate(labels)]


SUPPORT_SETS = {
    "softmax": lambda: clouds(4, 8),
    "two classes": lambda: clouds(2, 5),
    "one example each": lambda: clouds(3, 1),
    "negatives": negatives,
    "one negative": lambda: (clouds(3, 1)[0], ["a", "b", NEGATIVE_LABEL]),
    "sigmoids": several,
    "a thousand classes": lambda: clouds(1000, 2),
    "one dimension": lambda: (clouds(2, 5)[0][:, :1], ["a"] * 5 + ["b"] * 5),
    "zero examples": lambda: (clouds(2, 5)[0] * ([[0]] * 3 + [[1]] * 7), ["a"] * 5 + ["b"] * 5),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", SUPPORT_SETS)
def test_the_graph_answers_as_the_head(kind: str, transform: str, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, labels = SUPPORT_SETS[kind]()
    task = "multi_label" if kind == "sigmoids" else "single_label"
    head = fit(embeddings, labels, transform=transform, task=task)
    model = head_onnx(head, name="x", version=1)
    onnx.checker.check_model(model, full_check=True)
    questions = asked(embeddings)
    worst = largest_difference(head, answers(model, embedding=questions), questions)
    with capsys.disabled():
        print(f"\n{kind}, {transform}: largest difference {worst:.1e}", end=" ")
    assert worst < TOLERANCE


def test_any_batch_gives_the_same_answers() -> None:
    embeddings, labels = clouds(3, 4)
    model = head_onnx(fit(embeddings, labels), name="x", version=1)
    together = answers(model, embedding=embeddings)
    alone = [answers(model, embedding=row[None, :]) for row in embeddings]
    for name, values in together.items():
        np.testing.assert_allclose(np.concatenate([one[name] for one in alone]), values, atol=1e-6)


def test_the_model_says_what_it_is_and_is_always_the_same() -> None:
    head = fit(*clouds(3, 4))
    model = head_onnx(head, name="pets", version=7)
    assert model == head_onnx(head, name="pets", version=7)
    about = {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
    assert json.loads(about["classes"]) == list(head.classes)
    assert (about["head"], about["version"], about["task"]) == ("pets", "7", "single_label")
    assert about["extractor_digest"] == "0" * 64
    assert about["library_version"] == head.library_version
    assert float(about["unknown_threshold"]) == head.unknown_threshold


def test_the_opset_is_that_of_the_extractors() -> None:
    from training.graph import OPSET as EXTRACTORS_OPSET

    assert OPSET == EXTRACTORS_OPSET


@pytest.fixture(scope="module")
def lite0(lite0_folder: Path) -> Extractor:
    return Extractor.load(lite0_folder)


@pytest.mark.parametrize("layers", [("embedding",), ("stage3", "stage5", "embedding"), ("stage6",)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_head_of_several_layers_takes_them_side_by_side(layers: tuple[str, ...], transform: str) -> None:
    embeddings, labels = clouds(4, 8)
    dims = {"embedding": 20, "stage3": 4, "stage5": 10, "stage6": 30}
    options = FitOptions(layers=layers, transform=transform)
    head = fit_head(embeddings, labels, extractor_digest="0" * 64, options=options, layer_dims=dims)
    model = head_onnx(head, name="x", version=1)
    about = {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
    assert [layer["name"] for layer in json.loads(about["layers"])] == sorted(layers)
    questions = asked(embeddings)
    chosen = np.concatenate([questions[:, layer.columns] for layer in head.layers], axis=1)
    assert chosen.shape[1] == head.dim
    assert largest_difference(head, answers(model, embedding=chosen), questions) < TOLERANCE


@pytest.mark.parametrize("layers", [("embedding",), ("embedding", "stage2", "stage5"), ("stage4",)])
@pytest.mark.parametrize("kind", ["single", "negatives", "several"])
def test_photographs_through_the_fused_graph(
    lite0: Extractor,
    data_root: Path,
    kind: str,
    layers: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = images_of(data_root / "cats_dogs")
    paths = [path for label in photos for path in photos[label][:12]]
    pixels = np.stack([lite0.decode(path.read_bytes()) for path in paths])
    embeddings = np.concatenate([lite0.embed([image]) for image in pixels])
    names = [label for label in photos for _ in range(12)]
    labels: list = {
        "single": names,
        "negatives": [NEGATIVE_LABEL if row % 6 == 5 else name for row, name in enumerate(names)],
        "several": [[name, "odd"] if row % 2 else [name] for row, name in enumerate(names)],
    }[kind]
    train = [row for row in range(len(names)) if row % 12 < 6]
    options = replace(MULTI if kind == "several" else FitOptions(), layers=layers)
    head = fit_head(
        embeddings[train],
        [labels[row] for row in train],
        extractor_digest=lite0.digest,
        options=options,
        layer_dims=lite0.layer_dims,
    )
    model = fused_onnx(lite0.model(), lite0.manifest, head, name="pets", version=1)
    found = answers(model, images=pixels)
    worst = largest_difference(head, found, embeddings)
    with capsys.disabled():
        print(f"\n{kind}, fused: largest difference {worst:.1e}", end=" ")
    assert worst < TOLERANCE
    np.testing.assert_array_equal(found["labels_index"][:, 0], head.predict(embeddings).best)
    ranked = np.take_along_axis(found["probabilities"], found["labels_index"], axis=1)
    np.testing.assert_array_equal(found["top_probabilities"], ranked)
    assert (np.diff(ranked) <= 0).all()


def test_only_a_head_of_the_extractor_is_fused(lite0: Extractor) -> None:
    head = fit(*clouds(3, 4))
    with pytest.raises(ExtractorMismatchError, match=lite0.digest):
        fused_onnx(lite0.model(), lite0.manifest, head, name="x", version=1)


def test_a_model_of_an_old_opset_is_refused(lite0: Extractor) -> None:
    model = onnx.load_from_string(lite0.model())
    model.opset_import[0].version = 17
    embeddings = np.random.default_rng(0).normal(size=(4, lite0.dim)).astype(np.float32)
    head = fit_head(embeddings, ["a", "a", "b", "b"], extractor_digest=lite0.digest)
    with pytest.raises(ExportError, match="opset 17"):
        fused_onnx(model.SerializeToString(), lite0.manifest, head, name="x", version=1)
