"""How well, how calibrated, how honest and how fast are heads on embeddings of the default extractor?

Quality: for each set and number of examples per class, heads of random support sets are asked about images
that are in none. `oracle` is scikit-learn's LogisticRegression on the same embeddings, L2-normalised, at the
best of C = 1, 10, 100 chosen on the test images, which nobody could have chosen.

Speed: the time of a fit of scikit-learn over that of the whole `fit_head`, with its selection, calibration,
typicality and report. Two fits are compared with:

- `plain`, which is the bar: LogisticRegression(max_iter=1000) on the same embeddings, as most would write it.
- `as_good`, for information: the fastest that is as good on unseen inputs (within a point), of C = 1, 10, 100
  on normalised embeddings, each with the loosest tolerance that does, and the plain one if it is as good.

Both by the clock on the wall with the threads that they take by themselves, and (`_cpu`) in processor time on
one thread, which other processes on the machine disturb less; of the largest, only the plain fit.

    python -m benchmarks.heads [--seeds 10] [--runs 50] [--shots 1 5 20 50] [--quick]
    python -m benchmarks.heads --speed-only [242x5 1000x20 large stack ...]

Prints tables, then the bars, then one JSON line. The second prints the times alone, of all sizes or of some:
what needs a quiet machine.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.embedded import (
    EmbeddedSet,
    Floats,
    add_arguments,
    balanced_accuracy,
    best_time_s,
    calibration_error,
    embed_sets,
    normalised,
    split,
    without_cats_and_dogs,
)
from training.heads import HeadStack, fit_head

SETS = ("cats_dogs", "blood_cells", "ham10000")
OTHERS = ("blood_cells", "ham10000", "imagenet_sample")
ORACLE = (1.0, 10.0, 100.0)
# Classes, examples of each, and how many times faster than one plain fit of scikit-learn the whole must be.
SPEED_BARS = ((2, 10, 1.0), (10, 20, 10.0), (10, 50, 10.0), (242, 5, 20.0), (1000, 20, 20.0))
SLOW_CASE = 10_000  # examples from which scikit-learn is timed once, at C = 10 only
UNSEEN = 5  # of each class, on which the fits must be as good as each other
TOLERANCES = (1e-4, 1e-5, 1e-6)  # of scikit-learn's fit: its default and tighter ones
AS_GOOD = 0.01
NOISE = 2.0  # of the synthetic sets, in deviations of an embedding's values
LARGE_EXAMPLES, LARGE_CLASSES = 100_000, 100
LARGE_BYTES, LARGE_GRAMS = 2 << 30, 3.0
STACK_HEADS, STACK_CLASSES, STACK_PRODUCTS = 1000, 10, 2.0
ORACLE_SLACK = 0.005
COLUMNS = ("accuracy", "balanced", "oracle", "ece", "rejected", "report_off")


def fit(embeddings: Floats, labels: Sequence[str]) -> Any:
    return fit_head(embeddings, labels, extractor_digest="benchmark")


def quality(images: EmbeddedSet, shots: int, seed: int) -> dict[str, float]:
    """One support set: figures on unseen images."""
    support, test = split(images, shots, seed)
    labels, truth = images.labels[support].tolist(), images.labels[test]
    head = fit(images.embeddings[support], labels)
    prediction = head.predict(images.embeddings[test])
    correct = np.array(prediction.labels) == truth
    balanced = balanced_accuracy(prediction.labels, truth)
    known, asked = normalised(images.embeddings[support]), normalised(images.embeddings[test])
    models = [LogisticRegression(C=value, max_iter=1000).fit(known, labels) for value in ORACLE]
    accuracy = head.report.accuracy
    return {
        "accuracy": float(correct.mean()),
        "balanced": balanced,
        "oracle": max(balanced_accuracy(model.predict(asked).tolist(), truth) for model in models),
        "ece": calibration_error(prediction.probabilities, correct),
        "rejected": float(prediction.unknown.mean()),
        "report_off": float("nan") if accuracy is None else abs(accuracy - balanced),
    }


def measure_quality(
    sets: dict[str, EmbeddedSet], shots: Sequence[int], seeds: int
) -> dict[tuple[str, int], dict[str, float]]:
    print(f"{'set':12}{'shots':>6}" + "".join(f"{column:>12}" for column in COLUMNS))
    table = {}
    for name in SETS:
        for count in shots:
            rows = [quality(sets[name], count, seed) for seed in range(seeds)]
            means = {column: float(np.mean([row[column] for row in rows])) for column in COLUMNS}
            figures = "".join(f"{means[column]:>12.4f}" for column in COLUMNS)
            print(f"{name:12}{count:>6}{figures}", flush=True)
            table[name, count] = means
    return table


def measure_interval(sets: dict[str, EmbeddedSet], shots: int, runs: int) -> dict[str, dict[str, float]]:
    """How far the report's accuracy is from the truth, and how often its interval holds it."""
    table = {}
    for name in SETS:
        off, covered = [], []
        for seed in range(1000, 1000 + runs):
            support, test = split(sets[name], shots, seed)
            head = fit(sets[name].embeddings[support], sets[name].labels[support].tolist())
            answers = head.predict(sets[name].embeddings[test]).labels
            truth = balanced_accuracy(answers, sets[name].labels[test])
            off.append(abs(head.report.accuracy - truth))
            covered.append(head.report.accuracy_low <= truth <= head.report.accuracy_high)
        row = table[name] = {"off": float(np.mean(off)), "covered": float(np.mean(covered))}
        print(f"interval, {name}, {shots} of each: off {row['off']:.4f}, covered {row['covered']:.2f}")
    return table


def measure_unknown(sets: dict[str, EmbeddedSet], shots: int, seeds: int) -> dict[str, float]:
    """AUROC of typicality: unseen cats and dogs against images of other things, mean over seeds."""
    home, values, rejected = sets["cats_dogs"], {name: [] for name in OTHERS}, []  # type: ignore[var-annotated]
    for seed in range(seeds):
        support, test = split(home, shots, seed)
        head = fit(home.embeddings[support], home.labels[support].tolist())
        known = head.predict(home.embeddings[test])
        rejected.append(known.unknown.mean())
        for name in OTHERS:
            other = head.predict(without_cats_and_dogs(sets[name])).typicality
            truth = np.concatenate((np.ones(len(known.typicality)), np.zeros(len(other))))
            values[name].append(roc_auc_score(truth, np.concatenate((known.typicality, other))))
    found = {name: float(np.mean(scores)) for name, scores in values.items()}
    print("AUROC of a head of cats and dogs against", found, f"in-class rejected {np.mean(rejected):.3f}")
    return {**found, "rejected": float(np.mean(rejected))}


def synthetic(classes: int, shots: int, base: Floats) -> tuple[Floats, list[str]]:
    """Support sets of any size: noisy copies of real embeddings, four of them blended for each class."""
    rng = np.random.default_rng(0)
    deviation = np.float32(NOISE * base.std())
    centers = np.stack([base[rng.choice(len(base), 4)].mean(axis=0) for _ in range(classes)])
    embeddings = np.repeat(centers, shots, axis=0).astype(np.float32)
    for start in range(0, len(embeddings), 4096):
        rows = embeddings[start : start + 4096]
        rows += deviation * rng.standard_normal(rows.shape, dtype=np.float32)
    np.maximum(embeddings, 0, out=embeddings)
    return embeddings, [f"class {index // shots:04d}" for index in range(classes * shots)]


def adequate(
    features: Floats, labels: Sequence[str], unseen: Floats, truth: Sequence[str], bar: float
) -> list[Any]:
    """Models of scikit-learn: for each C that gets as good as `bar`, with the loosest tolerance that does.

    On normalised embeddings of many classes its default tolerance is met long before the fit is any good.
    """
    found = []
    for value in ORACLE[1:2] if len(features) >= SLOW_CASE else ORACLE:
        for tolerance in TOLERANCES:
            model = LogisticRegression(C=value, max_iter=1000, tol=tolerance)
            right = np.mean(model.fit(features, labels).predict(unseen) == np.array(truth))
            if right >= bar - AS_GOOD:
                found.append(model)
                break
    return found


def speed(classes: int, shots: int, base: Floats) -> dict[str, float]:
    """Times of a whole fit and of scikit-learn's, on the wall and in processor time."""
    everything, names = synthetic(classes, shots + UNSEEN, base)
    shown = np.arange(len(names)) % (shots + UNSEEN) < shots
    embeddings, unseen = everything[shown], everything[~shown]
    labels, truth = np.array(names)[shown].tolist(), np.array(names)[~shown].tolist()
    features, slow = normalised(embeddings), len(embeddings) >= SLOW_CASE
    accuracy = float(np.mean(np.array(fit(embeddings, labels).predict(unseen).labels) == truth))
    plain = LogisticRegression(max_iter=1000).fit(embeddings, labels)
    plain_accuracy = float(np.mean(plain.predict(unseen) == np.array(truth)))
    models = [(model, features) for model in adequate(features, labels, normalised(unseen), truth, accuracy)]
    if plain_accuracy >= accuracy - AS_GOOD:
        models.append((plain, embeddings))
    row: dict[str, float] = {
        "classes": classes,
        "shots": shots,
        "accuracy": accuracy,
        "plain": plain_accuracy,
    }
    repeats = 1 if slow else 3
    for name, threads, clock in (("", None, time.perf_counter), ("_cpu", 1, time.process_time)):
        with threadpool_limits(threads):
            ours = best_time_s(lambda: fit(embeddings, labels), 10 * repeats, clock)
            usual = best_time_s(lambda: plain.fit(embeddings, labels), repeats, clock)
            others = [] if slow and threads == 1 else models
            good = [best_time_s(lambda m=m, x=x: m.fit(x, labels), repeats, clock) for m, x in others]  # type: ignore[misc]
        row |= {f"fit_ms{name}": 1000 * ours, f"plain_ratio{name}": usual / ours}
        row |= {f"as_good_ratio{name}": min(good, default=float("nan")) / ours}
    return row


def measure_speed(base: Floats, bars: Sequence[tuple[int, int, float]]) -> list[dict[str, float]]:
    print(
        "The bar is plain_ratio; as_good_ratio and processor time on one thread (_cpu) are for information."
    )
    timed = ("fit_ms", "plain_ratio", "as_good_ratio")
    columns = ("accuracy", "plain", *timed, *(f"{column}_cpu" for column in timed))
    print(f"{'classes':>8}{'shots':>6}{'bar':>6}" + "".join(f"{column:>18}" for column in columns))
    table = []
    for classes, shots, bar in bars:
        row = {**speed(classes, shots, base), "bar": bar}
        figures = "".join(f"{row.get(column, float('nan')):>18.3f}" for column in columns)
        print(f"{classes:>8}{shots:>6}{bar:>6.0f}{figures}", flush=True)
        table.append(row)
    return table


def large() -> dict[str, float]:
    """100,000 examples of 100 classes, in a process of its own: peak memory, and time in Gram matrices."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.heads", "--large"], check=True, capture_output=True, text=True
    ).stdout
    row: dict[str, float] = json.loads(output.splitlines()[-1])
    print(f"{LARGE_EXAMPLES} examples: {row['peak_bytes'] / 2**30:.2f} GiB, {row['grams']:.2f} Gram matrices")
    return row


def measure_large() -> None:
    """What `large` runs."""
    base = np.maximum(np.random.default_rng(1).standard_normal((500, 1280), dtype=np.float32), 0)
    embeddings, labels = synthetic(LARGE_CLASSES, LARGE_EXAMPLES // LARGE_CLASSES, base)
    # The product of a matrix and its own transpose: numpy computes half of it.
    gram_s = best_time_s(lambda: embeddings.T @ embeddings, 4)
    fit_s = best_time_s(lambda: fit(embeddings, labels), 4)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, "grams": fit_s / gram_s, "fit_ms": 1000 * fit_s}))


def measure_stack(base: Floats) -> dict[str, float]:
    """1,000 heads of 10 classes on one embedding, in matrix products of their weights alone; both on one
    thread, which is what numpy has in a worker of a server."""
    rng = np.random.default_rng(0)
    heads = []
    for _ in range(STACK_HEADS):
        embeddings, labels = synthetic(STACK_CLASSES, 5, base[rng.permutation(len(base))])
        heads.append(fit(embeddings, labels))
    stack, embedding = HeadStack(heads), base[0]
    matrix, feature = np.concatenate([head.weights for head in heads]), normalised(base[:1])[0]
    with threadpool_limits(1):
        pairs = [
            best_time_s(lambda: stack.predict(embedding), 3) / best_time_s(lambda: matrix @ feature, 3)
            for _ in range(101)
        ]
    row = {"products": float(np.median(pairs))}
    print(f"{STACK_HEADS} heads of {STACK_CLASSES} classes: {row['products']:.2f} matrix products")
    return row


def measure_times(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--speed-only` asks for."""
    base = embed_sets(arguments, ("imagenet_sample",))["imagenet_sample"].embeddings
    asked = set(arguments.speed_only)
    sizes = [row for row in SPEED_BARS if not asked or f"{row[0]}x{row[1]}" in asked]
    result: dict[str, Any] = {"speed": measure_speed(base, sizes) if sizes else []}
    if not asked or "stack" in asked:
        result["stack"] = measure_stack(base)
    if not asked or "large" in asked:
        result["large"] = large()
    return result


def bars(
    result: dict[str, Any], quality_table: dict[tuple[str, int], dict[str, float]]
) -> Iterator[tuple[str, bool]]:
    """Each bar in words, and whether it is cleared."""
    gaps = {key: row["balanced"] - row["oracle"] for key, row in quality_table.items()}
    worst, mean = min(gaps.values()), float(np.mean(list(gaps.values())))
    yield f"never more than 0.5 points behind the oracle: worst {worst:+.4f}", worst >= -ORACLE_SLACK
    yield f"better than the oracle on the mean: {mean:+.4f}", mean > 0
    for count in sorted({shots for _, shots in quality_table if shots >= 5}):
        ece = float(np.mean([row["ece"] for (_, shots), row in quality_table.items() if shots == count]))
        yield f"calibration error at {count} of each, mean over the sets, <= 0.06: {ece:.4f}", ece <= 0.06
    for name, bar in zip(OTHERS, (0.99, 0.99, 0.98), strict=True):
        yield f"AUROC against {name} >= {bar}: {result['unknown'][name]:.4f}", result["unknown"][name] >= bar
    rejected = result["unknown"]["rejected"]
    yield f"in-class rejection within 3 to 8 %: {rejected:.3f}", 0.03 <= rejected <= 0.08
    off = float(np.mean([row["off"] for row in result["interval"].values()]))
    yield f"reported accuracy off by <= 4 points at 20 of each, mean over the sets: {off:.4f}", off <= 0.04
    covered = min(row["covered"] for row in result["interval"].values())
    yield f"its interval holds the truth in >= 90 % of the runs, worst set: {covered:.2f}", covered >= 0.9
    yield from speed_bars(result)


def speed_bars(result: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Those of them that are about time and memory, as far as it was measured."""
    for row in result["speed"]:
        size = f"{row['classes']:.0f} classes x {row['shots']:.0f}"
        ratio = row["plain_ratio"]
        against = f"{row['as_good_ratio']:.1f} against the fastest fit that is as good"
        yield (
            f"{size}: >= {row['bar']:.0f} times as fast as the plain fit: {ratio:.1f} ({against})",
            ratio >= row["bar"],
        )
    if "large" in result:
        peak, grams = result["large"]["peak_bytes"], result["large"]["grams"]
        yield f"100,000 examples within 2 GiB: {peak / 2**30:.2f}", peak <= LARGE_BYTES
        yield f"at the cost of <= 3 Gram matrices: {grams:.2f}", grams <= LARGE_GRAMS
    if "stack" in result:
        products = result["stack"]["products"]
        yield f"1,000 heads at <= 2 matrix products: {products:.2f}", products <= STACK_PRODUCTS


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy, calibration, honesty and speed of heads.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=50, help="support sets for the coverage of the interval")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--quick", action="store_true", help="without the largest sizes")
    parser.add_argument("--large", action="store_true", help="only 100,000 examples, as a JSON line")
    parser.add_argument(
        "--speed-only",
        nargs="*",
        metavar="SIZE",
        choices=[*(f"{classes}x{shots}" for classes, shots, _ in SPEED_BARS), "large", "stack"],
        help="only times: of all sizes, or of some",
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.large:
        measure_large()
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.speed_only is not None:
        times = measure_times(arguments)
        conclude(times, list(speed_bars(times)))
        return
    sets = embed_sets(arguments, (*SETS, "imagenet_sample"))
    base = sets["imagenet_sample"].embeddings
    table = measure_quality(sets, arguments.shots, arguments.seeds)
    result: dict[str, Any] = {
        "quality": [{"set": name, "shots": shots, **row} for (name, shots), row in table.items()],
        "interval": measure_interval(sets, 20, arguments.runs),
        "unknown": measure_unknown(sets, 20, arguments.seeds),
        "speed": measure_speed(base, SPEED_BARS[:3] if arguments.quick else SPEED_BARS),
        "stack": measure_stack(base),
    }
    if not arguments.quick:
        result["large"] = large()
    conclude(result, list(bars(result, table)))


def conclude(result: dict[str, Any], outcome: Sequence[tuple[str, bool]]) -> None:
    for message, cleared in outcome:
        print("ok  " if cleared else "MISS", message)
    line = {"benchmark": "heads", "bars_missed": sum(not cleared for _, cleared in outcome), **result}
    print(json.dumps(line).replace("NaN", "null"))


if __name__ == "__main__":
    main()
