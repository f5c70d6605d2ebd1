"""Choosing the layers that a head uses by held-out error. Knows no calibration, no report and no file.

Taps help where data is unlike what the network was trained on, and harm a little where it is alike
(docs/experiments.md). So the embedding stays alone unless more layers win by more than a standard error
(Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, for the rule). Layers add
their Gram matrices, so each is multiplied once, on at most `MAX_TRIED` examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.heads.definite import Numbers
from training.heads.layers import Layer, named
from training.heads.options import AUTO, FitOptions
from training.heads.ridge import dual_scores, span_of
from training.heads.selection import MAX_TRIED, PENALTIES, USUAL, Trials
from training.heads.support import Doubles, SupportSet
from training.heads.transform import TRANSFORMS

NOISE = 1.0  # standard errors by which more layers must win


@dataclass(frozen=True, eq=False)
class LayerChoice:
    """The support set on the chosen layers; `layers` and held-out `error` of all that were tried."""

    support: SupportSet
    tried: tuple[Mapping[str, Any], ...] = ()


def choose_layers(support: SupportSet, options: FitOptions) -> LayerChoice:
    """The support set on the layers of the options; with `auto`, on the best of a few choices.

    Parameters
    ----------
    support : on all layers of its rows

    Raises
    ------
    SupportSetError
        If it has no layer of a name in the options.
    """
    if options.layers != AUTO:
        return LayerChoice(support.on(named(support.layers, options.layers)))
    alone = support.layers[:1]
    if len(support.layers) == 1 or not support.can_be_held_out.any():
        return LayerChoice(support.on(alone))
    tried = support.subset(support.sample(MAX_TRIED))
    trials, grams = Trials(tried, fewest_for_log_loss=0), _grams(tried, options)
    losses = {
        layers: _losses(tried, trials, grams, layers, options) for layers in _candidates(support.layers)
    }
    errors = {layers: trials.mean(found) for layers, found in losses.items()}
    better = [layers for layers in losses if trials.is_lower(losses[layers], losses[alone], NOISE)]
    best = min(better, key=errors.__getitem__, default=alone)
    shown = [{"layers": [layer.name for layer in layers], "error": error} for layers, error in errors.items()]
    return LayerChoice(support.on(best), tuple(shown))


def _candidates(layers: Sequence[Layer]) -> Iterator[tuple[Layer, ...]]:
    """The embedding alone, with the last tap, with all taps."""
    embedding, *taps = layers
    yield (embedding,)
    if len(taps) > 1:
        yield embedding, taps[-1]
    yield tuple(layers)


def _grams(support: SupportSet, options: FitOptions) -> dict[tuple[str, Layer], Numbers]:
    """The inner products of the features of each layer, by transform."""
    transforms = TRANSFORMS if options.transform is None else (options.transform,)
    return {
        (transform, layer): span_of(support.on((layer,)), transform).gram
        for transform in transforms
        for layer in support.layers
    }


def _losses(
    support: SupportSet,
    trials: Trials,
    grams: Mapping[tuple[str, Layer], Numbers],
    layers: Sequence[Layer],
    options: FitOptions,
) -> Doubles:
    """Held-out loss (h,) of each example, by the transform of the least mean."""
    penalty = options.regularisation or PENALTIES[USUAL]
    found = []
    for transform in dict.fromkeys(transform for transform, _ in grams):
        gram = np.mean([grams[transform, layer] for layer in layers], axis=0)
        found.append(trials.losses(dual_scores(gram, support, penalty)))
    return min(found, key=trials.mean)
