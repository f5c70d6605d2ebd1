"""From rows and labels to advice: which of the four cases of transfer the examples are, and what to do.

| scenario | examples | similarity to the source | strategy |
|---|---|---|---|
| 1 | small | high | frozen extractor, new head |
| 2 | small | low | a head on intermediate layers, or training of the later layers |
| 3 | large | low | training from the pretrained start, of all but the first stages or of all |
| 4 | large | high | at most the classifier on top |

Knows no file, no database, no HTTP and no torch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from training.advise.knowledge import NOTHING, SourceKnowledge
from training.advise.measures import Measures, measure
from training.advise.plans import LITTLE_ROOM, Plan, head_plan, layers_plan, room, training_plan
from training.advise.words import Warned, reasons, summarise, warnings
from training.heads.fit import fit_head
from training.heads.gathering import gather
from training.heads.options import SINGLE_LABEL, FitOptions
from training.heads.threads import one_thread_for

MOST_EXAMINED = 3000  # examples that figures are taken from, in the proportions of all
# Median examples of a class (docs/guide/transfer.md).
FEWEST_FOR_LAST_BLOCKS, FEWEST_FOR_CONSERVATIVE = 20, 40
# Where there is much to learn from; `last-blocks` then keeps the first stages only (docs/guide/transfer.md).
THROUGH: tuple[Literal["last-blocks", "full", "conservative"], ...] = ("last-blocks", "full", "conservative")

SCENARIOS: Mapping[tuple[str, str], int] = {
    ("small", "high"): 1,
    ("small", "low"): 2,
    ("large", "low"): 3,
    ("large", "high"): 4,
}


@dataclass(frozen=True, eq=False)
class Advice:
    """What to do with a support set, and why.

    Attributes
    ----------
    scenario : 1 to 4; None if the similarity cannot be told
    size, similarity : small or large; high, low or None
    similarity_confidence : 0.5 to 1
    enough_data : False if there is too little for any strategy to be judged
    recommended, alternatives : what to do, and what else can be done, in order
    summary : the advice in a few sentences
    reasons : the figures behind it, in sentences
    warnings : what it cannot rely on, worst first
    measures : all figures
    """

    scenario: int | None
    size: Literal["small", "large"]
    similarity: Literal["high", "low"] | None
    similarity_confidence: float
    enough_data: bool
    recommended: Plan
    alternatives: tuple[Plan, ...]
    summary: str
    reasons: tuple[str, ...]
    warnings: tuple[Warned, ...]
    measures: Measures

    def as_dict(self) -> dict[str, Any]:
        """The advice as JSON-ready values."""
        return {
            "scenario": self.scenario,
            "size": self.size,
            "similarity": self.similarity,
            "similarity_confidence": self.similarity_confidence,
            "enough_data": self.enough_data,
            "summary": self.summary,
            "recommended": self.recommended.as_dict(),
            "alternatives": [plan.as_dict() for plan in self.alternatives],
            "reasons": list(self.reasons),
            "warnings": [asdict(warning) for warning in self.warnings],
            "figures": self.measures.as_dict(),
        }


def advise(
    rows: object,
    labels: Sequence[str] | Sequence[Collection[str]],
    *,
    layer_dims: Mapping[str, int],
    extractor_digest: str,
    source: SourceKnowledge = NOTHING,
    task: str = SINGLE_LABEL,
    embed_ms: float | None = None,
    unseen: Sequence[bool] | None = None,
) -> Advice:
    """Measure a support set and say what to do with it. The same examples always give the same advice.

    Parameters
    ----------
    rows : (n, width) float32, finite: the embedding, then the taps
    labels : as in `training.heads.fit_head`
    layer_dims : length of each layer of a row, in order, the embedding first
    extractor_digest : of the extractor that made the rows
    source : what that extractor knows of the images its network was trained on
    task : single_label or multi_label
    embed_ms : milliseconds in which a core embeds an image, if known: costs are then told as times
    unseen : as in `training.heads.fit_head`

    Raises
    ------
    NoExamplesError, TooFewClassesError, SupportSetError
        As `fit_head`.
    """
    options = FitOptions(task=task)
    with one_thread_for(len(labels)):
        support = gather(rows, labels, task, options.seed, layer_dims, unseen)
        whole = support
        if len(support) > MOST_EXAMINED:
            kept = np.sort(support.origin[support.spread(MOST_EXAMINED)])
            labels = [labels[row] for row in kept]
            unseen = None if unseen is None else [unseen[row] for row in kept]
            support = gather(support.embeddings[kept], labels, task, options.seed, layer_dims, unseen)
        report = fit_head(
            support.embeddings,
            labels,
            extractor_digest=extractor_digest,
            options=options,
            layer_dims=layer_dims,
            unseen=unseen,
        ).report
        measures = measure(support, report, options, source)
    if whole is not support:
        measures = replace(measures, size=type(measures.size).of(whole))
    return _advice(measures, embed_ms, examined=len(support))


def _advice(measures: Measures, embed_ms: float | None, *, examined: int) -> Advice:
    size, similarity = measures.size.level, measures.similarity.level
    scenario = None if similarity is None else SCENARIOS[size, similarity]
    enough = measures.embedding.is_above_chance or measures.every.is_above_chance
    plans = [head_plan(measures)] if not enough and size == "small" else _plans(scenario, measures, embed_ms)
    return Advice(
        scenario=scenario,
        size=size,
        similarity=similarity,
        similarity_confidence=measures.similarity.confidence,
        enough_data=enough,
        recommended=plans[0],
        alternatives=tuple(plans[1:]),
        summary=summarise(scenario, plans, measures, enough),
        reasons=tuple(reasons(measures)),
        warnings=tuple(warnings(measures, enough, examined)),
        measures=measures,
    )


def _plans(scenario: int | None, measures: Measures, embed_ms: float | None) -> list[Plan]:
    """What to do, the best first."""
    frozen = _frozen(measures, is_dissimilar=scenario in (2, 3))
    left = room(measures)
    if scenario is None or left is None or left < LITTLE_ROOM:
        return frozen
    later = training_plan("last-blocks", measures, embed_ms)
    if scenario == 1:
        return frozen if measures.similarity.is_sure else [*frozen, later]
    if scenario == 4:
        return [*frozen, later]
    if scenario == 3:
        through = [training_plan(strategy, measures, embed_ms) for strategy in THROUGH]
        return [*through, *frozen]
    if measures.size.median < FEWEST_FOR_LAST_BLOCKS:
        return [*frozen, later]
    if measures.size.median < FEWEST_FOR_CONSERVATIVE:
        return [later, *frozen]
    return [training_plan("conservative", measures, embed_ms), later, *frozen]


def _frozen(measures: Measures, *, is_dissimilar: bool) -> list[Plan]:
    """Heads on the frozen extractor, the best first.

    Where images were unlike the source, all layers were better than those of `auto`, and these than the
    embedding, in every case that was measured (docs/guide/heads.md): there they come first unless they are
    worse beyond doubt. Elsewhere they must be better beyond doubt.
    """
    plain = head_plan(measures)
    several = len((measures.every if is_dissimilar else measures.chosen).layers) > 1
    gain = measures.gains["every" if is_dissimilar else "chosen"]
    if not several or gain is None:
        return [plain]
    layers = layers_plan(measures, every=is_dissimilar)
    is_first = gain.high >= 0 if is_dissimilar else gain.is_better
    return [layers, plain] if is_first else [plain, layers]
