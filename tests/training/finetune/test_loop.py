"""Training goes on where it was stopped, keeps the best epoch, and the cache changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.finetune.small import CPU, SIDE, SPEC, embeddings_of, small_backbone, small_trainer
from training.backbones.backbone import Backbone
from training.errors import FinetuneError, FinetuneStoppedError
from training.finetune.loop import CHECKPOINT, Trainer
from training.finetune.views import Normaliser

ROWS = np.arange(60)


def never() -> bool:
    return False


def run(trainer: Trainer) -> np.ndarray:
    trainer.run(lambda epoch, figures: None, never)
    return embeddings_of(trainer, ROWS)


def test_the_loss_falls_and_the_layers_change(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, epochs=12, learning_rate=1e-2, augment=False)
    before = embeddings_of(trainer, ROWS)
    after = run(trainer)
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"]
    assert np.abs(after - before).max() > 1e-2


@pytest.mark.parametrize("strategy", ["last-blocks", "full", "conservative", "scratch"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, strategy: str) -> None:
    expected = run(small_trainer(tmp_path / "through", strategy=strategy))
    asked = iter([False, False, True])
    first = small_trainer(tmp_path / "stopped", strategy=strategy)
    with pytest.raises(FinetuneStoppedError, match="after epoch 2 of 4"):
        first.run(lambda epoch, figures: None, lambda: next(asked))
    second = small_trainer(tmp_path / "stopped", strategy=strategy)
    told: list[int] = []
    second.run(lambda epoch, figures: told.append(epoch), never)
    assert told == [3, 4]
    assert [item["epoch"] for item in second.history] == [1, 2, 3, 4]
    np.testing.assert_allclose(embeddings_of(second, ROWS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", ["stage1", "stage2"])
def test_cached_outputs_of_kept_layers_train_as_the_whole_network_does(tmp_path: Path, keep: str) -> None:
    cached = run(small_trainer(tmp_path / "cached", augment=False, keep=keep))
    through = run(small_trainer(tmp_path / "through", augment=False, cached=False, keep=keep))
    np.testing.assert_allclose(cached, through, rtol=1e-4, atol=1e-4)


def test_kept_layers_and_statistics_stay_as_they_are(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, keep="stage1")
    assert trainer.recipe.first is not None
    kept = {name: value.clone() for name, value in trainer.recipe.first.state_dict().items()}
    means = {n: v.clone() for n, v in trainer.recipe.rest.state_dict().items() if "running" in n}
    run(trainer)
    for name, value in kept.items():
        assert torch.equal(trainer.recipe.first.state_dict()[name], value)
    for name, value in means.items():
        assert torch.equal(trainer.recipe.rest.state_dict()[name], value)


def test_training_from_scratch_learns_the_statistics(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, strategy="scratch")
    before = trainer.recipe.rest.state_dict()["one.1.running_mean"].clone()
    run(trainer)
    assert not torch.equal(trainer.recipe.rest.state_dict()["one.1.running_mean"], before)


def test_conservative_training_forgets_less_of_what_the_source_answers(tmp_path: Path) -> None:
    """On images that neither saw, unlike those that they were trained on."""
    noise = np.random.default_rng(5).integers(0, 256, (200, SIDE, SIDE, 3), dtype=np.uint8)
    images = Normaliser.of(SPEC, CPU)(noise)

    def changed(strategy: str) -> float:
        backbone = small_backbone()
        before = answers(backbone, images)
        small_run = small_trainer(
            tmp_path / strategy, backbone=backbone, strategy=strategy, learning_rate=1e-2, epochs=8
        )
        run(small_run)
        return float((answers(backbone, images) - before).abs().mean())

    assert changed("conservative") < 0.5 * changed("full")


def answers(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embeddings = backbone.module(images)
    return torch.from_numpy(backbone.classifier.logits(embeddings.numpy())).softmax(1)


def test_a_source_says_nothing_against_itself_and_more_the_farther_it_is_left(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, strategy="conservative")
    source = trainer.source
    assert source is not None
    reminders = source.reminders(ROWS, np.random.default_rng(0))
    assert len(reminders) == len(ROWS) // 2
    was = source.embeddings(reminders)
    steps = torch.randn(was.shape, generator=torch.Generator().manual_seed(0))
    near, far = (float(source.divergence(was + share * steps, was)) for share in (0.01, 0.1))
    assert float(source.divergence(was, was)) == pytest.approx(0, abs=1e-6)
    assert 0 < near < far


def test_a_source_is_not_trained(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, strategy="conservative", learning_rate=1e-2)
    source = trainer.source
    assert source is not None
    before = {name: value.clone() for name, value in source.rest.state_dict().items()}
    run(trainer)
    assert all(torch.equal(source.rest.state_dict()[name], value) for name, value in before.items())
    weights = zip(source.rest.parameters(), trainer.recipe.rest.parameters(), strict=True)
    assert all(not torch.equal(was, weight) for was, weight in weights)


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, watched=15, epochs=40, patience=2, learning_rate=0.5)
    trainer.run(lambda epoch, figures: None, never)
    losses = [item["watched_loss"] for item in trainer.history]
    assert len(losses) == int(np.argmin(losses)) + 1 + 2 < 40
    best = torch.load(tmp_path / CHECKPOINT, weights_only=True)["best"]
    assert (best["epoch"], best["loss"]) == (int(np.argmin(losses)) + 1, min(losses))
    for name, weight in trainer.recipe.rest.state_dict().items():
        assert torch.equal(weight, best["rest"][name])


def test_a_loss_that_explodes_is_an_error(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, strategy="full")
    trainer._prepare()
    for weight in trainer.recipe.rest.parameters():
        weight.data.fill_(float("nan"))
    with pytest.raises(FinetuneError, match="smaller learning_rate"):
        trainer._epoch(1)


def test_a_checkpoint_of_other_layers_is_refused(tmp_path: Path) -> None:
    run(small_trainer(tmp_path, strategy="full"))
    with pytest.raises(FinetuneError, match="trained other layers: remove the folder"):
        run(small_trainer(tmp_path, strategy="conservative"))


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path)
    run(trainer)
    assert (tmp_path / CHECKPOINT).is_file()
    assert not list(tmp_path.glob("*.partial"))
