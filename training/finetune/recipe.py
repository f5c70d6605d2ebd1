"""What each strategy trains, and how fast. Knows no loop and no file.

Later layers learn faster than earlier ones (Howard and Ruder, "Universal language model fine-tuning for text
classification", ACL 2018). `conservative` keeps the first stage, and in every step distils what the source
answers (`training.finetune.distil`).
"""

from dataclasses import dataclass

import torch
from torch import fx

from training.backbones.backbone import Backbone
from training.errors import FinetuneError
from training.finetune.cut import cut_after, stage_paths, traced
from training.finetune.options import AUTO, FinetuneOptions
from training.finetune.schedule import epochs_for, kept_stage

LEARNING_RATES = {"last-blocks": 5e-4, "full": 3e-4, "conservative": 5e-4, "scratch": 2e-3}
FIRST_LAYERS_SHARE = 0.2  # of the learning rate of the last layers
WEIGHT_DECAY = 0.01
DISTILLED = 1.0  # weight of the source's answers in the loss of `conservative`


@dataclass(frozen=True, eq=False)
class Recipe:
    """How one run trains.

    Attributes
    ----------
    kept : name of the last stage that is kept as it is; None if all are trained
    first : the layers that are kept; None if all are trained
    rest : the layers that are trained, from the outputs of `first` (or pixels) to embeddings
    epochs, learning_rate : of this run
    first_layers_share : of the learning rate, for the first of the trained layers
    distilled : weight of the source's answers in the loss; 0 if it is not asked
    own_statistics : whether batch normalisation learns from the batches, as it must from a random start; else
        it keeps the statistics of the source, which few inputs would blur
    """

    kept: str | None
    first: fx.GraphModule | None
    rest: fx.GraphModule
    epochs: int
    learning_rate: float
    first_layers_share: float
    distilled: float
    own_statistics: bool


def recipe_of(backbone: Backbone, options: FinetuneOptions, train_count: int) -> Recipe:
    """The recipe of a strategy that trains layers of `backbone`, whose weights it shares.

    Raises
    ------
    FinetuneError
        The network has no stage of that name, or cannot be cut there.
    """
    kept, first = _kept(backbone, options, train_count), None
    if kept is not None:
        first, rest = cut_after(backbone.module, stage_paths(backbone)[kept])
        first.requires_grad_(False)
    else:
        rest = traced(backbone.module)
    rest.requires_grad_(True)
    rest.to(memory_format=torch.channels_last)
    return Recipe(
        kept=kept,
        first=first,
        rest=rest,
        epochs=options.epochs or epochs_for(options.strategy, train_count),
        learning_rate=options.learning_rate or LEARNING_RATES[options.strategy],
        first_layers_share=1.0 if options.strategy == "scratch" else FIRST_LAYERS_SHARE,
        distilled=DISTILLED if options.strategy == "conservative" else 0.0,
        own_statistics=options.strategy == "scratch",
    )


def _kept(backbone: Backbone, options: FinetuneOptions, train_count: int) -> str | None:
    """The last stage that is kept. The first one fits most images, and takes most of the time to train."""
    stages = list(stage_paths(backbone))
    if options.strategy == "conservative":
        return stages[0] if stages else None
    if options.strategy != "last-blocks":
        return None
    if not stages:
        raise FinetuneError(f"{backbone.name} has no stages to keep: train it with the strategy full")
    if options.keep == AUTO:
        return kept_stage(stages, train_count)
    if options.keep not in stages:
        raise FinetuneError(f"keep: expected {AUTO} or one of {', '.join(stages)}, got {options.keep!r}")
    return options.keep


def parameter_groups(recipe: Recipe, head: torch.nn.Module) -> list[dict[str, object]]:
    """Weights for the optimiser, slower the earlier; what is added or scales is not decayed."""
    weights = [weight for weight in recipe.rest.parameters() if weight.requires_grad]
    groups: list[dict[str, object]] = []
    for index, weight in enumerate(weights):
        place = index / max(len(weights) - 1, 1)
        rate = recipe.learning_rate * recipe.first_layers_share ** (1 - place)
        decay = WEIGHT_DECAY if weight.ndim > 1 else 0.0
        groups.append({"params": [weight], "lr": rate, "weight_decay": decay})
    groups.append(
        {"params": list(head.parameters()), "lr": 3 * recipe.learning_rate, "weight_decay": WEIGHT_DECAY}
    )
    return groups
