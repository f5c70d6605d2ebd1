"""What a panel says of one input, as JSON-ready values: cheap, as there may be a thousand heads.

Knows the shape of an answer. Knows no request.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.prediction.head_answer import labels_of, ranked
from service.prediction.panel import Panel
from service.prediction.stacks import ExtractorStack
from service.store import MULTI_LABEL
from training.heads import StackPrediction


def head_answers(panel: Panel, predicted: Sequence[StackPrediction], top_k: int) -> list[dict[str, Any]]:
    """The answer of each head, in the order of the panel."""
    answers: list[dict[str, Any]] = [{}] * len(panel.roster.names)
    for part, one in zip(panel.stacked.parts, predicted, strict=True):
        seats = [panel.roster.seats[place] for place in part.places]
        for seat, found in zip(seats, _part_answers(panel, part, one, top_k), strict=True):
            answers[seat] = found
    return answers


def _part_answers(
    panel: Panel, part: ExtractorStack, predicted: StackPrediction, top_k: int
) -> list[dict[str, Any]]:
    roster = panel.roster
    heads = [panel.stacked.heads[place] for place in part.places]
    labels = [head.classes[best] for head, best in zip(heads, predicted.best.tolist(), strict=True)]
    chances = predicted.probability.tolist()
    answers = [
        {
            "head": roster.names[roster.seats[place]],
            "version": roster.versions[place][1],
            "label": label,
            "probability": chance,
            "unknown": unknown,
            "typicality": typicality,
            "probabilities": [{"label": label, "probability": chance}],
        }
        for place, label, chance, unknown, typicality in zip(
            part.places,
            labels,
            chances,
            predicted.unknown.tolist(),
            predicted.typicality.tolist(),
            strict=True,
        )
    ]
    if top_k > 1:
        for row, (answer, head) in enumerate(zip(answers, heads, strict=True)):
            answer["probabilities"] = ranked(head.classes, predicted.probabilities(row), top_k)
    for row, head in enumerate(heads):
        if head.task == MULTI_LABEL:
            answers[row]["labels"] = labels_of(head.classes, predicted.probabilities(row))
    for row in np.flatnonzero(~np.isnan(predicted.negative)).tolist():
        answers[row]["none_probability"] = float(predicted.negative[row])
    return answers
