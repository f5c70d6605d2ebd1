"""Every network of the catalogue can be trained further: one step of each strategy on random weights."""

import os

import numpy as np
import pytest
import torch

from training.backbones import CATALOGUE, WeightsChoice, load_backbone
from training.finetune.options import FinetuneOptions
from training.finetune.recipe import parameter_groups, recipe_of

pytestmark = pytest.mark.long

ALL = bool(os.environ.get("HEADSTART_TEST_ALL_NETWORKS"))
# The second classifier of Inception v3, which embeddings do not pass through.
WITHOUT_PART = "AuxLogits."
NAMES = list(CATALOGUE) if ALL else ["efficientnet-lite0"]


@pytest.mark.parametrize("strategy", ["last-blocks", "full", "conservative"])
@pytest.mark.parametrize("name", NAMES)
def test_one_step_changes_what_is_trained_and_nothing_else(name: str, strategy: str) -> None:
    backbone = load_backbone(name, WeightsChoice(random_seed=0))
    spec = backbone.preprocess
    recipe = recipe_of(backbone, FinetuneOptions.from_dict({"strategy": strategy}), train_count=10)
    head = torch.nn.Linear(backbone.dim, 2)
    # Random weights pass on gradients that are far smaller than what the optimiser takes for none.
    optimizer = torch.optim.AdamW(parameter_groups(recipe, head), eps=1e-30)
    trained = dict(recipe.rest.named_parameters())
    before = {key: value.detach().clone() for key, value in backbone.module.named_parameters()}
    pixels = torch.randn(
        (2, 3, spec.crop_height, spec.crop_width), generator=torch.Generator().manual_seed(0)
    )
    activations = pixels if recipe.first is None else recipe.first(pixels).detach()
    loss = torch.nn.functional.cross_entropy(head(recipe.rest(activations)), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    moved = [key for key, value in backbone.module.named_parameters() if not torch.equal(value, before[key])]
    assert set(moved) <= set(trained)
    assert len(moved) > 0.9 * len(trained)
    assert all(np.isfinite(value.detach().numpy()).all() for value in trained.values())
    if strategy == "full":
        left_out = set(before) - set(trained)
        assert all(key.startswith(WITHOUT_PART) for key in left_out)
    if strategy == "conservative":
        assert recipe.kept == backbone.taps[0].name
