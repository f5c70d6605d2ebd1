"""What one head says of one input, as JSON-ready values. Knows no request and no file."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.heads import Prediction

MULTI_LABEL = "multi_label"
LABEL_PROBABILITY = 0.5  # from which an input of a multi-label head is said to have a label


def head_answer(prediction: Prediction, row: int, top_k: int) -> dict[str, Any]:
    """The answer for one input of a prediction; some fields only some heads have."""
    best = ranked(prediction.classes, prediction.probabilities[row], top_k)
    answer = {
        "label": best[0]["label"],
        "probability": best[0]["probability"],
        "unknown": bool(prediction.unknown[row]),
        "typicality": float(prediction.typicality[row]),
        "probabilities": best,
    }
    if prediction.task == MULTI_LABEL:
        answer["labels"] = labels_of(prediction.classes, prediction.probabilities[row])
    if prediction.negative is not None:
        answer["none_probability"] = float(prediction.negative[row])
    return answer


def ranked(classes: Sequence[str], probabilities: Any, top_k: int) -> list[dict[str, Any]]:
    """The most probable classes, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        {"label": classes[column], "probability": chance}
        for column, chance in zip(order.tolist(), probabilities[order].tolist(), strict=True)
    ]


def labels_of(classes: Sequence[str], probabilities: Any) -> list[str]:
    """The labels that an input of a multi-label head has, most probable first."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    return [classes[column] for column in order if probabilities[column] >= LABEL_PROBABILITY]
