"""Both parts of a cut network together are the network."""

import os

import pytest
import torch

from tests.training.finetune.small import small_backbone
from training.backbones import CATALOGUE, WeightsChoice, load_backbone
from training.errors import FinetuneError
from training.finetune.cut import cut_after, stage_paths

pytestmark = pytest.mark.long

ALL = bool(os.environ.get("HEADSTART_TEST_ALL_NETWORKS"))
NAMES = list(CATALOGUE) if ALL else ["efficientnet-lite0", "resnet50", "vit-b-16"]


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_are_the_network(name: str) -> None:
    backbone = load_backbone(name, WeightsChoice(random_seed=0))
    spec = backbone.preprocess
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((2, 3, spec.crop_height, spec.crop_width), generator=generator)
    with torch.inference_mode():
        expected = backbone.module(pixels)
        for path in stage_paths(backbone).values():
            first, rest = cut_after(backbone.module, path)
            found = rest(first(pixels))
            assert torch.equal(found, expected)
            own = dict(backbone.module.named_parameters())
            assert all(own[key] is weight for key, weight in rest.named_parameters())
            assert not {*dict(first.named_parameters())} & {*dict(rest.named_parameters())}


def test_a_stage_that_is_not_there() -> None:
    with pytest.raises(FinetuneError, match="no stage at four"):
        cut_after(small_backbone().module, "four")


def test_a_cut_through_a_bypass_is_refused() -> None:
    class Bypassed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(values)) + values

    with pytest.raises(FinetuneError, match="cannot be cut after one"):
        cut_after(Bypassed(), "one")
