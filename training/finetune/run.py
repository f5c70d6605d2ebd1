"""One run of fine-tuning: labelled inputs and an extractor folder in, another such folder and a head out.

Everything a run needs to go on after a kill lies in its folder. Knows no service and no command line.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from training.backbones.backbone import Backbone
from training.backbones.weights import save_weights
from training.errors import DeviceError, FinetuneError, FinetuneStoppedError
from training.export import write_extractor
from training.finetune.distil import Source
from training.finetune.feed import CachedFeed, Feed, ThroughFeed, feed_after
from training.finetune.judge import Rows, judge
from training.finetune.loop import Trainer
from training.finetune.memory import keep_freed_memory
from training.finetune.network import load_network, random_network
from training.finetune.options import FinetuneOptions, Progress
from training.finetune.recalibrate import recalibrate
from training.finetune.recipe import Recipe, recipe_of
from training.finetune.samples import NOTHING, Ints, Samples, Split, decode_all
from training.finetune.views import Normaliser, upside_down
from training.heads import FitOptions, Head, fit_head
from training.image_embedding import ImageEmbedder
from training.manifest import FILES, Weights, sha256_of
from training.tuned import TunedOn

RUN, EXTRACTOR = "run.json", "extractor"
# Where the parts of a run begin, as shares of all of it.
BEGINS = {"prepare": 0.0, "frozen-layers": 0.05, "train": 0.2, "export": 0.85, "judge": 0.95}
# Loss of accuracy by turning the inputs upside down above which up and down mean something.
UPRIGHT_LOSS = 0.03
FEWEST_TURNED, MOST_TURNED = 20, 200

Tell = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What a run gives.

    Attributes
    ----------
    folder : the new extractor folder, complete; for the strategy `head` the folder of the source
    head : fitted on all inputs; calibrated, and reported, by those that no layer was trained on
    report : JSON-ready: strategy, kept stage, epochs, history, seconds, and the comparison with the frozen
        network
    is_better : whether it beats the frozen network beyond doubt on the held-out inputs
    """

    folder: Path
    head: Head
    report: Mapping[str, Any]
    is_better: bool


def run_finetune(
    inputs: Sequence[bytes],
    labels: Sequence[str],
    *,
    source: Path,
    run_folder: Path,
    options: FinetuneOptions,
    fit: FitOptions,
    name: str,
    unlabelled: Sequence[bytes] = (),
    weights_path: Path | None = None,
    progress: Tell | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Finetuned:
    """See `training.finetune.finetune`."""
    return _Run(
        inputs=inputs,
        unlabelled=unlabelled,
        labels=labels,
        source=source,
        folder=run_folder,
        options=options,
        fit=fit,
        name=name,
        weights_path=weights_path,
        tell=progress or (lambda _: None),
        should_stop=should_stop or (lambda: False),
    ).carry_out()


@dataclass(eq=False)
class _Run:
    inputs: Sequence[bytes]
    unlabelled: Sequence[bytes]
    labels: Sequence[str]
    source: Path
    folder: Path
    options: FinetuneOptions
    fit: FitOptions
    name: str
    weights_path: Path | None
    tell: Tell
    should_stop: Callable[[], bool]

    def carry_out(self) -> Finetuned:
        start = perf_counter()
        keep_freed_memory()
        self._say("prepare", 0.0)
        device = _device(self.options.device)
        self.embedder = embedder = ImageEmbedder.load(self.source)
        self.samples = Samples.of(self.inputs, self.labels, embedder.manifest.preprocess)
        before = TunedOn.load(self.source)
        self.split = Split.of(self.samples, self.options.held_out, self.options.seed, before)
        self._claim_folder(embedder.manifest.digest)
        self.frozen = self._rows(embedder)
        self._check_stop()
        if self.options.strategy == "head":
            return self._finished(self.source, self.frozen, {}, before, start)
        backbone = load_network(self.source, self.weights_path)
        trained, figures = self._train(backbone, device)
        seen = np.setdiff1d(np.arange(len(self.samples)), self.split.held_out)
        tuned_on = TunedOn.of(self.samples.keys[row] for row in seen)
        if self.options.strategy == "recalibrate":
            tuned_on = NOTHING  # it saw no label
        if self.options.strategy != "scratch":
            tuned_on |= before
        self._say("export", 0.0)
        folder = self._export(trained, tuned_on)
        return self._finished(folder, self._rows(ImageEmbedder.load(folder)), figures, tuned_on, start)

    def _train(self, backbone: Backbone, device: torch.device) -> tuple[Backbone, dict[str, Any]]:
        normalise = Normaliser.of(backbone.preprocess, device)
        if self.options.strategy == "recalibrate":
            extra = decode_all(self.unlabelled, backbone.preprocess)
            pixels = np.concatenate((self.samples.pixels, extra))
            module = backbone.module.to(device)
            recalibrate(module, pixels, normalise, self.options.seed, lambda done: self._say("train", done))
            backbone.module.to("cpu")
            return backbone, {"inputs": len(pixels)}
        if self.options.strategy == "scratch":
            backbone = random_network(backbone, self.options.seed)
        recipe = recipe_of(backbone, self.options, len(self.split.train))
        rows = np.union1d(self.split.train, self.split.watched)
        part = self.samples.part(rows)
        feed = Feed(part, normalise, self.options.seed, self.options.augment, self._is_upright())
        source = Source.of(recipe, backbone.classifier, feed, device) if recipe.distilled else None
        trainer = Trainer(
            recipe=recipe,
            feed=self._feed(recipe, feed, device),
            targets=part.targets,
            train=np.searchsorted(rows, self.split.train),
            watched=np.searchsorted(rows, self.split.watched),
            batch_size=self.options.batch_size,
            patience=self.options.patience,
            seed=self.options.seed,
            folder=self.folder,
            device=device,
            source=source,
        )
        history = trainer.run(lambda epoch, found: self._say_epoch(recipe, epoch, found), self.should_stop)
        backbone.module.to("cpu").to(memory_format=torch.contiguous_format)
        backbone.module.eval().requires_grad_(False)
        return backbone, {"keep": recipe.kept, "epochs": len(history), "history": history}

    def _feed(self, recipe: Recipe, feed: Feed, device: torch.device) -> Feed | CachedFeed | ThroughFeed:
        """Pixels, or the outputs of kept layers: cached, unless these run for the reminders anyway."""
        if recipe.first is None:
            return feed
        first = recipe.first.to(device)
        if recipe.distilled:
            return ThroughFeed(feed, first)
        return feed_after(feed, first, self.folder, lambda done: self._say("frozen-layers", done))

    def _is_upright(self) -> bool:
        """Whether a head loses by turning inputs upside down that it does not know; if not, training may."""
        rows = self.split.train[:: max(1, len(self.split.train) // MOST_TURNED)]
        labels = np.array(self.samples.labels)
        known, asked = rows[::2], rows[1::2]
        if not self.options.augment or len(asked) < FEWEST_TURNED or len(set(labels[known])) < 2:
            return True
        head = self._fit(self.frozen, known)
        turned = np.stack([self.embedder.embed(upside_down(self.samples.pixels[row])) for row in asked])
        right = [
            float((np.array(head.predict(rows).labels) == labels[asked]).mean())
            for rows in (self.frozen.rows[asked], turned)
        ]
        return right[1] < right[0] - UPRIGHT_LOSS

    def _export(self, backbone: Backbone, tuned_on: TunedOn) -> Path:
        folder = self.folder / EXTRACTOR
        partial = self.folder / f"{EXTRACTOR}.partial"
        for left in (partial, folder):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        save_weights(backbone.module, partial)
        backbone.classifier.save(partial)
        if tuned_on.inputs:
            tuned_on.save(partial)
        origin = f"{self.options.strategy} of {backbone.name}, {self.frozen.digest}"
        weights = Weights(origin, sha256_of(partial / FILES.weights), backbone.weights.licence)
        write_extractor(
            replace(backbone, name=self.name, weights=weights),
            partial,
            parity_inputs=self.inputs[:8],
            tell=lambda _, fraction: self._say("export", fraction),
        )
        partial.rename(folder)
        return folder

    def _finished(
        self, folder: Path, tuned: Rows, figures: Mapping[str, Any], tuned_on: TunedOn, start: float
    ) -> Finetuned:
        self._say("judge", 0.0)
        verdict = judge(self.frozen, tuned, self.samples, self.split, self.fit)
        report = {
            "strategy": self.options.strategy,
            **figures,
            "train": len(self.split.train),
            "watched": len(self.split.watched),
            "held_out": verdict.as_dict(),
            "seconds": round(perf_counter() - start, 3),
        }
        self._say("judge", 1.0, _verdict_line(report["held_out"]))
        every = np.arange(len(self.samples))
        return Finetuned(folder, self._fit(tuned, every, tuned_on), report, verdict.is_better)

    def _fit(self, rows: Rows, known: Ints, tuned_on: TunedOn = NOTHING) -> Head:
        return fit_head(
            rows.rows[known],
            [self.samples.labels[row] for row in known],
            extractor_digest=rows.digest,
            options=self.fit,
            layer_dims=rows.layer_dims,
            unseen=tuned_on.unseen(self.samples.keys[row] for row in known),
        )

    def _rows(self, embedder: ImageEmbedder) -> Rows:
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            rows = np.stack(list(pool.map(embedder.embed, self.samples.pixels)))
        return Rows(rows, embedder.manifest.layer_dims, embedder.manifest.digest)

    def _claim_folder(self, digest: str) -> None:
        """A folder belongs to one run: what it holds would not fit another."""
        content = hashlib.sha256()
        for key, label in zip(self.samples.keys, self.samples.labels, strict=True):
            content.update(f"{key} {label}\n".encode())
        for data in self.unlabelled:
            content.update(hashlib.sha256(data).digest())
        run = {"source": digest, "inputs": content.hexdigest(), "options": self.options.as_dict()}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / RUN
        text = json.dumps(run, sort_keys=True)
        if path.is_file():
            if path.read_text(encoding="utf-8") != text:
                raise FinetuneError(
                    f"{self.folder} holds another run (other inputs, options or extractor): choose another"
                )
            return
        if any(self.folder.iterdir()):
            raise FinetuneError(f"{self.folder} is not empty and holds no run: choose another folder")
        path.write_text(text, encoding="utf-8")

    def _check_stop(self) -> None:
        if self.should_stop():
            raise FinetuneStoppedError("stopped before training")

    def _say(self, stage: str, done: float, message: str = "") -> None:
        ends = [*BEGINS.values(), 1.0]
        begin = BEGINS[stage]
        end = ends[list(BEGINS).index(stage) + 1]
        self.tell(Progress(stage, begin + done * (end - begin), message=message))

    def _say_epoch(self, recipe: Recipe, epoch: int, figures: Mapping[str, float]) -> None:
        begin, end = BEGINS["train"], BEGINS["export"]
        fraction = begin + epoch / recipe.epochs * (end - begin)
        parts = ", ".join(f"{key} {value:g}" for key, value in figures.items() if key != "epoch")
        message = f"epoch {epoch} of {recipe.epochs}: {parts}"
        self.tell(Progress("train", fraction, epoch, recipe.epochs, dict(figures), message))


def _device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("this torch finds no CUDA device: choose device cpu or auto")
    torch.backends.cudnn.deterministic = True  # the same run gives the same weights
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _verdict_line(held_out: Mapping[str, Any]) -> str:
    return (
        f"on {held_out['count']} held-out inputs: accuracy {held_out['tuned_accuracy']:.3f}, with the frozen "
        f"network {held_out['frozen_accuracy']:.3f}; "
        f"difference {held_out['low']:+.3f} to {held_out['high']:+.3f}"
    )
