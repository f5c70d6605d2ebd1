"""Heads: learn from a handful of embeddings, say how sure, say when an input is like nothing learned.

`fit_head` fits, selects, calibrates and evaluates; `Head.predict` answers; `save_head` and `load_head` store.
`check_examples` finds wrong labels, copies and outliers.
Knows no network, no image, no HTTP and no database: numpy and scipy only.
"""

from training.heads.checks import Duplicates, Findings, check_examples
from training.heads.evaluation import Evaluation, evaluate
from training.heads.fit import fit_head
from training.heads.head import Head, Prediction
from training.heads.headfile import load_head, save_head
from training.heads.options import AUTO, TASKS, FitOptions
from training.heads.report import Report
from training.heads.stack import HeadStack, StackPrediction
from training.heads.support import NEGATIVE_LABEL
from training.heads.transform import TRANSFORMS

__all__ = [
    "AUTO",
    "NEGATIVE_LABEL",
    "TASKS",
    "TRANSFORMS",
    "Duplicates",
    "Evaluation",
    "Findings",
    "FitOptions",
    "Head",
    "HeadStack",
    "Prediction",
    "Report",
    "StackPrediction",
    "check_examples",
    "evaluate",
    "fit_head",
    "load_head",
    "save_head",
]
