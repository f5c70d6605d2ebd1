"""Every strategy of transfer on real images: accuracy on unseen images, time, and what the source forgets.

For each set and number of examples: the frozen extractor with a head on its last layer and on several layers,
fine-tuning of the last blocks, of all layers, of layers held to the source's answers, from scratch, and with
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
import torch

from benchmarks.embedded import REPOSITORY, Ints, add_arguments, balanced_accuracy, chosen_extractor
from benchmarks.imagenet_sample import score
from benchmarks.transfer_table import (
    ADVICE,
    ALL,
    CASES,
    FROZEN,
    TRAINED,
    Bars,
    bars_of,
    markdown,
    read_results,
    write_guide,
)
from training.advise import SourceKnowledge, advise
from training.errors import FinetuneError
from training.finetune import FinetuneOptions, finetune
from training.finetune.cut import stage_paths
from training.finetune.feed import CachedFeed, Feed, ThroughFeed
from training.finetune.loop import Trainer
from training.finetune.network import load_network
from training.finetune.recipe import recipe_of
from training.finetune.samples import Samples
from training.finetune.views import Normaliser
from training.heads import FitOptions, Head, fit_head
from training.image_embedding import ImageEmbedder
from training.image_folder import images_under

RESULTS = REPOSITORY / "benchmarks" / "transfer.jsonl"
GUIDE = REPOSITORY / "docs" / "guide" / "transfer.md"
EPOCH_IMAGES = 64
FOUR_TIMES = "stage6"  # kept up to here, an epoch on cached outputs must be four times as fast
SEEDS = 3
MAX_TEST_PER_CLASS = 100
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
        """One strategy on one split: accuracy, processor seconds, and what is known beside them."""
        support, test = split_of(images, case[1], seed)
        start = time.process_time()
        found: dict[str, Any] = {"set": case[0], "size": case[1], "seed": seed, "strategy": strategy}
        found |= {"support": len(support), "test": len(test)}
        if strategy == ADVICE:
            return found | self.advice(images, support)
        if strategy in FROZEN:
            head = self.fit(images, support, "auto" if strategy == "layers" else ("embedding",))
            found["seconds"] = time.process_time() - start
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
            found["seconds"] = time.process_time() - start
            found |= {key: done.report.get(key) for key in ("keep", "epochs", "held_out")}
            found["layers"] = [layer.name for layer in done.head.layers]
            embedder = ImageEmbedder.load(done.folder)
            rows = embed(embedder, [images.paths[row] for row in test])
            if strategy in FORGETTING and case in FORGOTTEN:
                found["source_top1"] = score(done.folder, self.data).top1
            return found | self.scores(done.head, rows, images.labels[test])

    def advice(self, images: Images, rows: Ints) -> dict[str, Any]:
        """What the advisor says of a support set."""
        manifest = self.embedder.manifest
        found = advise(
            images.rows[rows],
            images.labels[rows].tolist(),
            layer_dims=manifest.layer_dims,
            extractor_digest=manifest.digest,
            source=SourceKnowledge.load(self.folder, manifest),
        )
        return {"scenario": found.scenario, "recommended": found.recommended.strategy}

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


def epoch_bars(bench: Bench) -> Bars:
    """How much faster an epoch of `last-blocks` is on cached outputs of the kept layers than through all.

    In processor time, on the same images, without augmentation; the weights that come out are compared, too.
    """
    every = images_under(bench.data / "ham10000")
    paths = [every[i] for i in np.linspace(0, len(every) - 1, EPOCH_IMAGES).round().astype(int)]
    samples = Samples.of(
        [path.read_bytes() for path in paths],
        [path.parent.name for path in paths],
        bench.embedder.manifest.preprocess,
    )
    bars: Bars = {}
    for stage in stage_paths(load_network(bench.folder)):
        cached, cached_s = one_epoch(bench, samples, stage, cached=True)
        through, through_s = one_epoch(bench, samples, stage, cached=False)
        farthest = max(float((cached[name] - through[name]).abs().max()) for name in cached)
        bars[f"epoch on cached outputs of {stage}, times as fast"] = (
            round(through_s / cached_s, 2),
            stage != FOUR_TIMES or through_s >= 4 * cached_s,
        )
        bars[f"weights after it, greatest difference ({stage})"] = (farthest, farthest <= 1e-4)
    return bars


def one_epoch(
    bench: Bench, samples: Samples, stage: str, *, cached: bool
) -> tuple[dict[str, torch.Tensor], float]:
    """The trained weights after one epoch, and its processor time in seconds."""
    backbone = load_network(bench.folder)
    options = FinetuneOptions(keep=stage, epochs=1, augment=False)
    recipe = recipe_of(backbone, options, len(samples))
    assert recipe.first is not None
    with tempfile.TemporaryDirectory() as folder:
        normalise = Normaliser.of(backbone.preprocess, torch.device("cpu"))
        pixels = Feed(samples, normalise, 0, augment=False, upright=True)
        through = ThroughFeed(pixels, recipe.first)
        feed = CachedFeed.fill(pixels, recipe.first, Path(folder), lambda _: None) if cached else through
        rows = np.arange(len(samples))
        trainer = Trainer(
            recipe=recipe,
            feed=feed,
            targets=samples.targets,
            train=rows,
            watched=rows[:0],
            batch_size=16,
            patience=1,
            seed=0,
            folder=Path(folder),
            device=torch.device("cpu"),
        )
        trainer._prepare()
        start = time.process_time()
        trainer._epoch(1)
        seconds = time.process_time() - start
    return {name: value.detach().clone() for name, value in recipe.rest.named_parameters()}, seconds


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
    everything = (*FROZEN, ADVICE, *TRAINED)
    wanted = tuple(arguments.strategies.split(",")) if arguments.strategies else everything
    cases = [case for case in CASES if arguments.case in (None, f"{case[0]}:{case[1]:g}")]
    folder = chosen_extractor(arguments)
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
                known[case[0], case[1], seed, strategy] = found
                print(json.dumps(found), flush=True)
    print(markdown(known))
    bars = bars_of(known) | epoch_bars(bench)
    for bar, (figure, passed) in bars.items():
        print(f"{'ok  ' if passed else 'MISS'} {bar}: {figure}")
    if arguments.guide:
        write_guide(GUIDE, known)
    print(json.dumps({name: figure for name, (figure, _) in bars.items()}))


if __name__ == "__main__":
    main()
