"""How well, how calibrated and how fast are heads on embeddings of the default extractor?

For each set and number of examples per class, fits heads on random support sets and asks them about images
that are in none (images that share a file name stay on one side). scikit-learn's LogisticRegression is fitted
to the same embeddings, L2-normalised, at C = 1, 10 and 100: `oracle` is the best of the three on the test
images, which nobody could have chosen; `speed` is the mean time of one of its fits over the time of the whole
`fit_head` with its cross-validation, calibration, typicality and report. One thread.

    python -m benchmarks.heads [--seeds 10] [--shots 1 5 20 50] [--extractor FOLDER] [--data FOLDER]
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from training.export import export_extractor
from training.heads import Head, fit_head
from training.manifest import FILES, Manifest
from training.preprocess import decode_image
from training.runtime import onnxruntime

REPOSITORY = Path(__file__).resolve().parent.parent
SETS = ("cats_dogs", "blood_cells", "ham10000")
OTHERS = ("blood_cells", "ham10000", "imagenet_sample")
SPEED_CASES = ((2, 10), (2, 100), (10, 20), (10, 50), (100, 20), (242, 5))
ORACLE = (1.0, 10.0, 100.0)
MAX_TEST_PER_CLASS = 250
BINS = 15
NOISE = 2.0  # of the synthetic sets, in deviations of an embedding's values
SUFFIXES = (".jpg", ".jpeg", ".png")
# WordNet ids of ImageNet's dogs, foxes, wolves and cats: what a head of cats and dogs may call known.
CATS_AND_DOGS = range(2085620, 2127053)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EmbeddedSet:
    """Embeddings (n, d) of one labelled set, with the label and the file name of each image."""

    embeddings: Floats
    labels: npt.NDArray[np.str_]
    names: npt.NDArray[np.str_]


def embed_set(extractor: Path, data_root: Path, name: str, most_per_class: int | None = None) -> EmbeddedSet:
    """Embed the images of a set, or the first `most_per_class` of each class in the order of their names."""
    manifest = Manifest.load(extractor)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(extractor / FILES.model, options, ["CPUExecutionProvider"])
    folders = sorted(path for path in (data_root / name).iterdir() if path.is_dir())
    paths = [path for folder in folders for path in _images(folder)[:most_per_class]]
    rows = []
    for path in paths:
        image = decode_image(path.read_bytes(), manifest.preprocess)
        rows.append(session.run(None, {manifest.input.name: image[np.newaxis]})[0])
    return EmbeddedSet(
        np.concatenate(rows),
        np.array([path.parent.name for path in paths]),
        np.array([path.name for path in paths]),
    )


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def split(images: EmbeddedSet, shots: int, seed: int) -> tuple[Ints, Ints]:
    """Rows of a support set of `shots` per class, and of test images that share no file name with it."""
    names, name_of = np.unique(images.names, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))[name_of]
    members = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    members = [rows[np.argsort(place[rows])] for rows in members]
    support = np.concatenate([rows[:shots] for rows in members])
    taken = np.isin(name_of, name_of[support])
    return support, np.concatenate([rows[~taken[rows]][-MAX_TEST_PER_CLASS:] for rows in members])


def calibration_error(probabilities: Floats, correct: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error in 15 bins of equal width (Guo et al., ICML 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(correct))


def balanced_accuracy(predicted: Sequence[str], truth: npt.NDArray[np.str_]) -> float:
    """Mean recall over the classes."""
    right = np.array(predicted) == truth
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def best_time_s(call: Callable[[], Any], repeats: int) -> float:
    """Shortest wall time of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def normalised(embeddings: Floats) -> Floats:
    """Rows of unit length."""
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), dtype=np.float32)


def measure(images: EmbeddedSet, shots: int, seed: int) -> dict[str, float]:
    """One support set: quality on unseen images, and time against scikit-learn."""
    support, test = split(images, shots, seed)
    embeddings, labels = images.embeddings[support], images.labels[support].tolist()
    truth = images.labels[test]
    head = fit_head(embeddings, labels, extractor_digest="benchmark")
    prediction = head.predict(images.embeddings[test])
    correct = np.array(prediction.labels) == truth
    balanced = balanced_accuracy(prediction.labels, truth)
    row = {
        "accuracy": float(correct.mean()),
        "balanced": balanced,
        "ece": calibration_error(prediction.probabilities, correct),
        "rejected": float(prediction.unknown.mean()),
        **_report_against(head, balanced),
    }
    oracle, sklearn_s = _sklearn(normalised(embeddings), labels, normalised(images.embeddings[test]), truth)
    fit_s = best_time_s(lambda: fit_head(embeddings, labels, extractor_digest="benchmark"), 3)
    return {**row, "oracle": oracle, "fit_ms": 1000 * fit_s, "speed": sklearn_s / fit_s}


def _report_against(head: Head, accuracy: float) -> dict[str, float]:
    """Distance of the report's accuracy from the truth, and whether its interval holds it; NaN if unknown.

    The truth is balanced like the support set, of which the report speaks.
    """
    report = head.report
    if report.accuracy is None or report.accuracy_low is None or report.accuracy_high is None:
        return {"report_off": float("nan"), "covered": float("nan")}
    inside = report.accuracy_low <= accuracy <= report.accuracy_high
    return {"report_off": abs(report.accuracy - accuracy), "covered": float(inside)}


def _sklearn(
    features: Floats, labels: Sequence[str], test: Floats, truth: npt.NDArray[np.str_]
) -> tuple[float, float]:
    """Best balanced accuracy over `ORACLE`, and the mean time of a fit in seconds."""
    models = [LogisticRegression(C=value, max_iter=1000) for value in ORACLE]
    times = [best_time_s(lambda model=model: model.fit(features, labels), 2) for model in models]  # type: ignore[misc]
    scores = [balanced_accuracy(model.predict(test).tolist(), truth) for model in models]
    return max(scores), float(np.mean(times))


def measure_unknown(sets: dict[str, EmbeddedSet], shots: int, seeds: int) -> dict[str, float]:
    """AUROC of typicality: unseen cats and dogs against images of other things, mean over seeds."""
    values: dict[str, list[float]] = {name: [] for name in OTHERS}
    for seed in range(seeds):
        home = sets["cats_dogs"]
        support, test = split(home, shots, seed)
        head = fit_head(home.embeddings[support], home.labels[support].tolist(), extractor_digest="benchmark")
        known = head.predict(home.embeddings[test]).typicality
        for name in OTHERS:
            other = head.predict(_not_cats_or_dogs(sets[name])).typicality
            truth = np.concatenate((np.ones(len(known)), np.zeros(len(other))))
            values[name].append(float(roc_auc_score(truth, np.concatenate((known, other)))))
    return {name: float(np.mean(scores)) for name, scores in values.items()}


def _not_cats_or_dogs(images: EmbeddedSet) -> Floats:
    if not images.labels[0].startswith("n0"):
        return images.embeddings
    ids = [int(label.split("_")[0][1:]) for label in images.labels]
    return images.embeddings[[number not in CATS_AND_DOGS for number in ids]]


def synthetic(classes: int, shots: int, base: Floats) -> tuple[Floats, list[str]]:
    """Support sets of any size: noisy copies of real embeddings, one for each class."""
    rng = np.random.default_rng(0)
    centers = base[np.arange(classes) % len(base)]
    noise = NOISE * base.std() * rng.standard_normal((classes * shots, base.shape[1]))
    embeddings = np.maximum(np.repeat(centers, shots, axis=0) + noise, 0).astype(np.float32)
    return embeddings, [f"class {index // shots:04d}" for index in range(classes * shots)]


def measure_speed(classes: int, shots: int, base: Floats) -> dict[str, float]:
    """Time of a whole fit, and of scikit-learn's mean fit over it."""
    embeddings, labels = synthetic(classes, shots, base)
    features, repeats = normalised(embeddings), 5 if classes * shots < 1000 else 1
    fit_s = best_time_s(lambda: fit_head(embeddings, labels, extractor_digest="benchmark"), repeats)
    times = [
        best_time_s(lambda c=value: LogisticRegression(C=c, max_iter=1000).fit(features, labels), repeats)  # type: ignore[misc]
        for value in ORACLE
    ]
    return {"fit_ms": 1000 * fit_s, "speed": float(np.mean(times)) / fit_s}


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy, calibration and speed of heads.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--extractor", type=Path, help="folder; the default extractor if left out")
    default_data = os.environ.get("HEADSTART_DATA", REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default_data))
    arguments = parser.parse_args()
    extractor = arguments.extractor or REPOSITORY / ".headstart" / "extractors" / "efficientnet-lite0"
    if arguments.extractor is None:
        export_extractor("efficientnet-lite0", extractor)
    sets = {name: embed_set(extractor, arguments.data, name) for name in (*SETS, "imagenet_sample")}
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1):
        result = {
            "quality": _quality_table(sets, arguments.shots, arguments.seeds),
            "unknown_auroc_20": measure_unknown(sets, 20, arguments.seeds),
            "speed": _speed_table(sets["imagenet_sample"].embeddings),
        }
    print("unknown, AUROC of 20 cats and 20 dogs against", result["unknown_auroc_20"])
    print(json.dumps({"benchmark": "heads", "seeds": arguments.seeds, **result}))


def _quality_table(sets: dict[str, EmbeddedSet], shots: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    columns = (
        "accuracy",
        "balanced",
        "oracle",
        "ece",
        "rejected",
        "report_off",
        "covered",
        "fit_ms",
        "speed",
    )
    print(f"{'set':12}{'shots':>6}" + "".join(f"{column:>11}" for column in columns))
    table = []
    for name in SETS:
        for count in shots:
            rows = [measure(sets[name], count, seed) for seed in range(seeds)]
            means: dict[str, float | None] = {
                column: float(np.mean([row[column] for row in rows])) for column in columns
            }
            print(
                f"{name:12}{count:>6}" + "".join(f"{means[column]:>11.3f}" for column in columns), flush=True
            )
            known = {key: value if value == value else None for key, value in means.items()}
            table.append({"set": name, "shots": count, **known})
    return table


def _speed_table(base: Floats) -> list[dict[str, float]]:
    print(f"{'classes':>8}{'shots':>6}{'fit_ms':>11}{'speed':>11}")
    table = []
    for classes, shots in SPEED_CASES:
        row = measure_speed(classes, shots, base)
        print(f"{classes:>8}{shots:>6}{row['fit_ms']:>11.1f}{row['speed']:>11.2f}", flush=True)
        table.append({"classes": classes, "shots": shots, **row})
    return table


if __name__ == "__main__":
    main()
