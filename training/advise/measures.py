"""Everything that is measured before advice is given. Knows no strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.advise.held_out import Judged, compare, judge
from training.advise.knowledge import SourceKnowledge
from training.advise.scores import h_score, leep, log_me
from training.advise.similarity import Similarity, measure_similarity, softmax
from training.advise.size import Size
from training.heads.layer_choice import choose_layers
from training.heads.layers import Layer
from training.heads.options import AUTO, FitOptions
from training.heads.pairing import Paired
from training.heads.report import Report
from training.heads.support import SupportSet, evenly

MOST_SCORED = 2000  # examples: scores grow with their cube, and hardly change beyond
FEWEST_CLASSES = 2  # with two examples that the extractor was not trained on


@dataclass(frozen=True)
class LayerFigures:
    """One layer by itself.

    Attributes
    ----------
    layer, dim : name and length
    distance : from the source, in deviations of its channels; None if that is not known
    log_me, h_score : as in `training.advise.scores`, of examples that the extractor was not trained on; None
        where these are too few, and no H-score of a multi-label set
    accuracy, balanced_accuracy : held-out, of a head on this layer alone
    """

    layer: str
    dim: int
    distance: float | None
    log_me: float | None
    h_score: float | None
    accuracy: float | None
    balanced_accuracy: float | None


@dataclass(frozen=True, eq=False)
class Measures:
    """The figures behind advice.

    Attributes
    ----------
    size, similarity : of the examples, and to the source
    layers : each by itself, the embedding first
    leep : of the source's classifier; None without one, for a multi-label set, and as `log_me`
    tuned_on : distinct examples that the extractor was trained on
    embedding : a head on the embedding
    chosen : a head on the layers that `layers=auto` takes
    every : a head on all layers
    gains : of the heads `chosen` and `every` over `embedding`, with intervals
    forecast : accuracy to be expected of twice as many examples, where it is known
    """

    size: Size
    similarity: Similarity
    layers: tuple[LayerFigures, ...]
    leep: float | None
    embedding: Judged
    chosen: Judged
    every: Judged
    gains: Mapping[str, Paired | None]
    forecast: Mapping[str, float] | None
    tuned_on: int

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        return {
            "size": self.size.as_dict(),
            "similarity": self.similarity.as_dict(),
            "layers": [vars(figures).copy() for figures in self.layers],
            "leep": self.leep,
            "heads": {
                "embedding": _head(self.embedding, None),
                "auto": _head(self.chosen, self.gains["chosen"]),
                "every_layer": _head(self.every, self.gains["every"]),
            },
            "chance": self.embedding.chance,
            "forecast": None if self.forecast is None else dict(self.forecast),
            "tuned_on": self.tuned_on,
        }


def measure(
    support: SupportSet,
    report: Report,
    options: FitOptions,
    source: SourceKnowledge,
) -> Measures:
    """Measure a support set whose features are of all layers.

    Parameters
    ----------
    report : of a head on the embedding
    options : how heads are fitted
    source : what the extractor knows of its source
    """
    rows = support.embeddings[support.origin]
    first, *taps = support.layers
    similarity = measure_similarity(
        {tap.name: rows[:, tap.columns] for tap in taps}, rows[:, first.columns], source
    )
    alone = {layer.name: judge(support.on((layer,)), options) for layer in support.layers}
    embedding = alone[first.name]
    heads = {embedding.layers: embedding}
    auto = choose_layers(support, replace(options, layers=AUTO)).support
    for one in (auto, support):
        names = tuple(layer.name for layer in one.layers)
        if names not in heads:
            heads[names] = judge(one, options)
    chosen = heads[tuple(layer.name for layer in auto.layers)]
    every = heads[tuple(layer.name for layer in support.layers)]
    scored = _scored(support)
    return Measures(
        size=Size.of(support),
        similarity=similarity,
        layers=tuple(
            _layer_figures(scored, layer, alone[layer.name], similarity) for layer in support.layers
        ),
        leep=None if scored is None else _leep(scored, first, source),
        embedding=embedding,
        chosen=chosen,
        every=every,
        gains={
            "chosen": compare(embedding, chosen, support.columns),
            "every": compare(embedding, every, support.columns),
        },
        forecast=report.forecast,
        tuned_on=0 if support.unseen is None else int((~support.unseen).sum()),
    )


def _scored(support: SupportSet) -> SupportSet | None:
    """The examples that scores are taken from; None if too few are of use.

    Labels that the extractor was trained on fit its last layers better than others would.
    """
    if support.unseen is None:
        return support.subset(support.spread(MOST_SCORED))
    rows = np.flatnonzero(support.unseen)
    rows = rows[evenly(len(rows), MOST_SCORED)]
    if (support.indicator[rows].sum(axis=0) > 1).sum() < FEWEST_CLASSES:
        return None
    return support.subset(rows)


def _layer_figures(
    scored: SupportSet | None, layer: Layer, judged: Judged, similarity: Similarity
) -> LayerFigures:
    log, score = (None, None) if scored is None else _scores(scored, layer)
    return LayerFigures(
        layer=layer.name,
        dim=layer.dim,
        distance=similarity.stages.get(layer.name),
        log_me=log,
        h_score=score,
        accuracy=judged.accuracy,
        balanced_accuracy=judged.balanced,
    )


def _scores(support: SupportSet, layer: Layer) -> tuple[float, float | None]:
    """LogME and H-score of a layer."""
    features = support.embeddings[support.origin, layer.columns].astype(np.float64)
    score = h_score(features, support.targets) if support.is_single else None
    return log_me(features, support.indicator.astype(np.float64)), score


def _leep(support: SupportSet, embedding: Layer, source: SourceKnowledge) -> float | None:
    if source.classifier is None or not support.is_single:
        return None
    logits = source.classifier.logits(support.embeddings[support.origin, embedding.columns])
    _, chances = softmax(logits.astype(np.float64))
    return leep(chances, support.targets)


def _head(judged: Judged, gain: Paired | None) -> dict[str, Any]:
    layers: Sequence[str] = judged.layers
    return {
        "layers": list(layers),
        "held_out": judged.held_out,
        "accuracy": judged.accuracy,
        "accuracy_low": judged.low,
        "accuracy_high": judged.high,
        "balanced_accuracy": judged.balanced,
        "gain": None if gain is None else gain.difference,
        "gain_low": None if gain is None else gain.low,
        "gain_high": None if gain is None else gain.high,
    }
