"""The epochs: losses, steps, early stopping, and checkpoints from which a killed run goes on.

Knows a recipe and a feed; knows no strategy, no extractor and no file format but its own checkpoint.
"""

import copy
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.errors import FinetuneError, FinetuneStoppedError
from training.finetune.cut import batch_normalisations
from training.finetune.distil import Source
from training.finetune.feed import CachedFeed, Feed, ThroughFeed, outputs
from training.finetune.recipe import Recipe, parameter_groups
from training.finetune.samples import Ints

LABEL_SMOOTHING = 0.1
DROPOUT = 0.2
WARM_UP = 0.1  # of all steps
LARGEST_GRADIENT = 5.0
PROBE_STEPS = 60  # of the classifier alone, before any layer is trained
PROBE_PENALTY = 1e-3
CHECKPOINT = "checkpoint.pt"

Tell = Callable[[int, Mapping[str, float]], None]


@dataclass(eq=False)
class Trainer:
    """Trains the last layers of a network with a linear classifier on top.

    Attributes
    ----------
    recipe, feed : what is trained, and on what
    targets : (n,) class of each input of the feed
    train, watched : rows of the feed; `watched` may be empty: then all epochs are run, and the last counts
    batch_size, patience, seed : as the options say
    folder : of the checkpoint
    source : the network as it was, if the recipe distils its answers
    """

    recipe: Recipe
    feed: Feed | CachedFeed | ThroughFeed
    targets: Ints
    train: Ints
    watched: Ints
    batch_size: int
    patience: int
    seed: int
    folder: Path
    device: torch.device
    source: Source | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def run(self, tell: Tell, should_stop: Callable[[], bool]) -> list[dict[str, float]]:
        """Train, or go on from the checkpoint; the layers have the weights of the best epoch afterwards.

        Returns
        -------
        Of each epoch: epoch, loss, watched_loss (if any input is watched), seconds.

        Raises
        ------
        FinetuneStoppedError
            `should_stop` said so, between two epochs; the checkpoint is there.
        FinetuneError
            The loss is no longer a number, or the checkpoint is of other layers.
        """
        self._prepare()
        best = self._resume() or {"epoch": 0, "loss": math.inf, "rest": None}
        for epoch in range(len(self.history) + 1, self.recipe.epochs + 1):
            if self._waited(best) >= self.patience:
                break
            if should_stop():
                raise FinetuneStoppedError(f"stopped after epoch {epoch - 1} of {self.recipe.epochs}")
            self.history.append(self._epoch(epoch))
            # Where nothing is watched, the last epoch is the best.
            loss = self.history[-1].get("watched_loss", -float(epoch))
            if loss < best["loss"]:
                best = {"epoch": epoch, "loss": loss, "rest": copy.deepcopy(self.recipe.rest.state_dict())}
            self._save(best)
            tell(epoch, self.history[-1])
        if best["rest"] is not None:
            self.recipe.rest.load_state_dict(best["rest"])
        self.recipe.rest.eval()
        return self.history

    def _waited(self, best: Mapping[str, Any]) -> int:
        return len(self.history) - int(best["epoch"]) if len(self.watched) else 0

    def _prepare(self) -> None:
        self.recipe.rest.to(self.device).eval()
        shares = np.bincount(self.targets[self.train], minlength=int(self.targets.max()) + 1)
        weights = 1 / np.maximum(shares, 1)
        self.class_weights = torch.from_numpy(weights / weights[self.targets[self.train]].mean())
        self.class_weights = self.class_weights.float().to(self.device)
        self.head = self._probe(self._forward(self.train))
        groups = parameter_groups(self.recipe, self.head)
        self.optimizer = torch.optim.AdamW(groups)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.steps = max(len(self.train) // self.batch_size, 1)

    def _probe(self, embeddings: torch.Tensor) -> torch.nn.Linear:
        """A classifier for the network as it is, so that a random one does not spoil its layers at first.

        Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
        ICLR 2022.
        """
        embeddings = embeddings.clone()
        head = torch.nn.Linear(embeddings.shape[1], len(self.class_weights), device=self.device)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        targets = torch.from_numpy(self.targets[self.train]).to(self.device)
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = self._loss(head(embeddings), targets) + PROBE_PENALTY * head.weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return head

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(
            logits.float(), targets, reduction="none", label_smoothing=LABEL_SMOOTHING
        )
        return (self.class_weights[targets] * losses).mean()

    def _epoch(self, epoch: int) -> dict[str, float]:
        start = time.perf_counter()
        torch.manual_seed(self.seed * 100_003 + epoch)
        self._training_mode()
        order = np.random.default_rng((self.seed, epoch, 1)).permutation(self.train)
        groups = np.array_split(order, self.steps)
        losses = []
        random = np.random.default_rng((self.seed, epoch, 2))
        batches = self.feed.batches(groups, epoch)
        for step, (rows, batch) in enumerate(zip(groups, batches, strict=True)):
            self._set_rates((epoch - 1) * self.steps + step)
            reminders = None if self.source is None else self.source.reminders(rows, random)
            losses.append(self._step(batch, torch.from_numpy(self.targets[rows]).to(self.device), reminders))
        loss = float(np.mean(losses))
        if not math.isfinite(loss):
            raise FinetuneError(f"the loss of epoch {epoch} is not a number: choose a smaller learning_rate")
        figures = {"epoch": float(epoch), "loss": round(loss, 5)}
        if len(self.watched):
            figures["watched_loss"] = round(self._watched_loss(), 5)
        return figures | {"seconds": round(time.perf_counter() - start, 3)}

    def _training_mode(self) -> None:
        self.recipe.rest.train()
        if self.recipe.own_statistics:
            return
        for layer in batch_normalisations(self.recipe.rest):
            layer.eval()

    def _step(self, batch: torch.Tensor, targets: torch.Tensor, reminders: torch.Tensor | None) -> float:
        with self._precision():
            embeddings = self.recipe.rest(batch if reminders is None else torch.cat((batch, reminders)))
        shown = torch.nn.functional.dropout(embeddings[: len(batch)].float(), DROPOUT)
        total = loss = self._loss(self.head(shown), targets)
        if self.source is not None and reminders is not None:
            with self._precision():
                expected = self.source.embeddings(reminders)
            total = loss + self.recipe.distilled * self.source.divergence(embeddings[len(batch) :], expected)
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.recipe.rest.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())

    def _precision(self) -> torch.autocast:
        """Mixed on a GPU that can; on a CPU bfloat16 is slower than float32 (docs/experiments.md)."""
        mixed = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)

    def _set_rates(self, step: int) -> None:
        """A linear warm-up, then half a cosine to nothing."""
        total = self.steps * self.recipe.epochs
        warm = (step + 1) / max(WARM_UP * total, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * step / total))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * min(warm, 1.0) * cosine

    def _forward(self, rows: Ints) -> torch.Tensor:
        """Embeddings (len(rows), dim) of inputs as they are."""
        self.recipe.rest.eval()
        return torch.cat(list(outputs(self.recipe.rest, self.feed, rows))).float()

    def _watched_loss(self) -> float:
        with torch.inference_mode():
            logits = self.head(self._forward(self.watched))
            targets = torch.from_numpy(self.targets[self.watched]).to(self.device)
            return float(self._loss(logits, targets))

    def _save(self, best: Mapping[str, Any]) -> None:
        state = {
            "history": self.history,
            "best": dict(best),
            "rest": self.recipe.rest.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.folder / (CHECKPOINT + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.folder / CHECKPOINT)

    def _resume(self) -> dict[str, Any] | None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return None
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.history = state["history"]
        try:
            self.recipe.rest.load_state_dict(state["rest"])
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise FinetuneError(
                f"{path} is of a version that trained other layers: remove the folder, or choose another"
            ) from error
        best: dict[str, Any] = state["best"]
        return best
