"""Every strategy of transfer on real images: accuracy on unseen images, time, and what the source forgets.

For each set and number of examples: the frozen extractor with a head on its last layer and on several layers,
fine-tuning of the last blocks, of all layers, of all layers held close to the source, from scratch, and with
recalibrated batch normalisation; and what the advisor says. Results are kept in a file as they come, so that
a run that was stopped goes on. Prints a table and, last, one line of JSON; `--guide` writes the table into
docs/guide/transfer.md.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded import REPOSITORY, Ints, add_arguments, balanced_accuracy
from benchmarks.imagenet_sample import score
from training.errors import FinetuneError
from training.export import export_extractor
from training.finetune import FinetuneOptions, finetune
from training.heads import FitOptions, Head, fit_head
from training.image_embedding import ImageEmbedder
from training.image_folder import images_under

RESULTS = REPOSITORY / "benchmarks" / "transfer.jsonl"
SEEDS = 3
MAX_TEST_PER_CLASS = 100
ALL = 0.75  # of all images, the rest are the test
CASES: tuple[tuple[str, float], ...] = (
    ("cats_dogs", 20),
    ("blood_cells", 5),
    ("ham10000", 20),
    ("ham10000", 50),
    ("ham10000", ALL),
)
FROZEN = ("head", "layers")
TRAINED = ("last-blocks", "full", "conservative", "scratch", "recalibrate")
# What the source forgets is measured where there is most to learn, and so most to forget.
FORGETTING, FORGOTTEN = ("full", "conservative", "last-blocks"), (("ham10000", 50), ("ham10000", ALL))


@dataclass(frozen=True, eq=False)
class Images:
    """One set: files, labels, and rows by the frozen extractor (n, width)."""

    paths: tuple[Path, ...]
    labels: np.ndarray[Any, np.dtype[np.str_]]
    rows: np.ndarray[Any, np.dtype[np.float32]]

    def inputs(self, rows: Ints) -> list[bytes]:
        return [self.paths[row].read_bytes() for row in rows]


def split_of(images: Images, size: float, seed: int) -> tuple[Ints, Ints]:
    """Rows to learn from and rows to test on; images that share a file name stay on one side."""
    names, name_of = np.unique([path.name for path in images.paths], return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))[name_of]
    support, test = [], []
    for label in np.unique(images.labels):
        rows = np.flatnonzero(images.labels == label)
        rows = rows[np.argsort(place[rows])]
        support.append(rows[: int(size) if size >= 1 else round(size * len(rows))])
    taken = np.concatenate(support)
    for label in np.unique(images.labels):
        rows = np.flatnonzero(images.labels == label)
        rows = rows[np.argsort(place[rows])]
        test.append(rows[~np.isin(name_of[rows], name_of[taken])][-MAX_TEST_PER_CLASS:])
    return taken, np.concatenate(test)


def embed(embedder: ImageEmbedder, paths: Sequence[Path]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows (n, width) of image files, on every core."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(
            list(pool.map(lambda path: embedder.embed(embedder.decode(path.read_bytes())), paths))
        )


@dataclass(frozen=True, eq=False)
class Bench:
    """The frozen extractor, the sets by the frozen extractor, and the images of the source."""

    folder: Path
    embedder: ImageEmbedder
    data: Path

    def load(self, name: str) -> Images:
        paths = images_under(self.data / name)
        labels = np.array([path.parent.name for path in paths])
        return Images(paths, labels, embed(self.embedder, paths))

    def measure(self, images: Images, case: tuple[str, float], seed: int, strategy: str) -> dict[str, Any]:
        """One strategy on one split: accuracy, balanced accuracy, seconds, and what is known beside them."""
        support, test = split_of(images, case[1], seed)
        start = time.perf_counter()
        found: dict[str, Any] = {"set": case[0], "size": case[1], "seed": seed, "strategy": strategy}
        found |= {"support": len(support), "test": len(test)}
        if strategy in FROZEN:
            head = self.fit(images, support, "auto" if strategy == "layers" else ("embedding",))
            found["seconds"] = time.perf_counter() - start
            found["layers"] = [layer.name for layer in head.layers]
            return found | self.scores(head, images.rows[test], images.labels[test])
        with tempfile.TemporaryDirectory() as folder:
            done = finetune(
                images.inputs(support),
                images.labels[support].tolist(),
                source=self.folder,
                run_folder=Path(folder) / "run",
                options=FinetuneOptions(strategy=strategy, seed=seed),  # type: ignore[arg-type]
                name="tuned",
            )
            found["seconds"] = time.perf_counter() - start
            found |= {key: done.report.get(key) for key in ("keep", "epochs", "held_out")}
            found["layers"] = [layer.name for layer in done.head.layers]
            embedder = ImageEmbedder.load(done.folder)
            rows = embed(embedder, [images.paths[row] for row in test])
            if strategy in FORGETTING and case in FORGOTTEN:
                found["source_top1"] = score(done.folder, self.data).top1
            return found | self.scores(done.head, rows, images.labels[test])

    def fit(self, images: Images, rows: Ints, layers: Any) -> Head:
        manifest = self.embedder.manifest
        return fit_head(
            images.rows[rows],
            images.labels[rows].tolist(),
            extractor_digest=manifest.digest,
            options=FitOptions(layers=layers),
            layer_dims=manifest.layer_dims,
        )

    def scores(self, head: Head, rows: Any, truth: Any) -> dict[str, Any]:
        prediction = head.predict(rows)
        labels = np.array(prediction.labels)
        right = labels == truth
        return {
            "accuracy": float(right.mean()),
            "balanced_accuracy": balanced_accuracy(labels.tolist(), truth),
            "reported": head.report.accuracy,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results so far")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--case", help="only this one, such as ham10000:50")
    parser.add_argument("--strategies", help="only these, separated by commas")
    parser.add_argument("--guide", action="store_true", help="write the table into docs/guide/transfer.md")
    arguments = parser.parse_args()
    wanted = tuple(arguments.strategies.split(",")) if arguments.strategies else FROZEN + TRAINED
    cases = [case for case in CASES if arguments.case in (None, f"{case[0]}:{case[1]:g}")]
    folder = arguments.extractor or REPOSITORY / ".headstart" / "extractors" / "efficientnet-lite0"
    if arguments.extractor is None:
        export_extractor("efficientnet-lite0", folder)
    bench = Bench(folder, ImageEmbedder.load(folder), arguments.data)
    known = read_results(arguments.results)
    sets: dict[str, Images] = {}
    for seed in range(arguments.seeds):
        for case in cases:
            for strategy in wanted:
                if (case[0], case[1], seed, strategy) in known:
                    continue
                if case[0] not in sets:
                    sets[case[0]] = bench.load(case[0])
                try:
                    found = bench.measure(sets[case[0]], case, seed, strategy)
                except FinetuneError as error:
                    found = {"set": case[0], "size": case[1], "seed": seed, "strategy": strategy}
                    found["error"] = str(error)
                with arguments.results.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(found) + "\n")
                print(json.dumps(found), flush=True)


def read_results(path: Path) -> dict[tuple[str, float, int, str], dict[str, Any]]:
    """What is measured already, by set, size, seed and strategy."""
    if not path.is_file():
        return {}
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(item["set"], item["size"], item["seed"], item["strategy"]): item for item in found}


if __name__ == "__main__":
    main()
