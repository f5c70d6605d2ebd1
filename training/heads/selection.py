"""Choosing the transform and the penalty by held-out error. Knows no calibration, no report and no file.

The error is the squared one that `ridge` gives in closed form, on at most `MAX_TRIED` examples: the best
choice hardly depends on their number. The transform with the lower error is taken; the penalty moves away
from its usual value only for a gain beyond the noise.
"""

from dataclasses import dataclass

import numpy as np

from training.heads.options import FitOptions
from training.heads.ridge import (
    DualScores,
    Ridge,
    Span,
    dual_scores,
    fit_dual,
    fit_primal,
    is_dual,
    moments_of,
    span_of,
)
from training.heads.support import Doubles, SupportSet
from training.heads.transform import TRANSFORMS

MAX_TRIED = 256
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
USUAL = 1
FEWEST_FOR_PENALTY = 64  # examples below which the noise hides what another penalty would gain
# One example of each class: nothing to choose by. Close to the class means, on plain lengths, was best.
ONE_SHOT_TRANSFORM, ONE_SHOT_PENALTY = "l2", 3.0
NOISE = 2.0  # standard errors by which another penalty must win


@dataclass(frozen=True)
class Choice:
    """What was chosen, and the held-out error of all that was tried: (transform, penalty, error)."""

    transform: str
    penalty: float
    tried: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, eq=False)
class Selected:
    """A fit with the choice behind it; `span` is there if it was fitted in the span of all examples."""

    choice: Choice
    fit: Ridge
    span: Span | None


def select(support: SupportSet, options: FitOptions) -> Selected:
    """Choose and fit."""
    if not support.can_be_held_out.any():
        choice = Choice(
            options.transform or ONE_SHOT_TRANSFORM, options.regularisation or ONE_SHOT_PENALTY, ()
        )
        return _fit(support, choice)
    rows = support.sample(MAX_TRIED)
    search = _Search(support if len(rows) == len(support) else support.subset(rows), options)
    choice = search.run()
    if len(rows) < len(support):
        return _fit(support, choice)
    span, scores = search.spans[choice.transform], search.scores[choice.transform, choice.penalty]
    return Selected(choice, fit_dual(span, support, scores), span)


def _fit(support: SupportSet, choice: Choice) -> Selected:
    if is_dual(support):
        span = span_of(support, choice.transform)
        scores = dual_scores(span.gram, support, choice.penalty)
        return Selected(choice, fit_dual(span, support, scores), span)
    moments = moments_of(support, choice.transform, np.arange(len(support)))
    return Selected(choice, fit_primal(support, choice.transform, choice.penalty, moments), None)


class _Search:
    """Every fit that was tried on one (small) support set."""

    def __init__(self, support: SupportSet, options: FitOptions) -> None:
        self.support, self.options = support, options
        self.rows = np.flatnonzero(support.can_be_held_out)
        share = support.weights[self.rows]
        self.share = share / share.sum()
        self.spans: dict[str, Span] = {}
        self.scores: dict[tuple[str, float], DualScores] = {}
        self.errors: dict[tuple[str, float], float] = {}

    def run(self) -> Choice:
        transforms = TRANSFORMS if self.options.transform is None else (self.options.transform,)
        penalty = self.options.regularisation or PENALTIES[USUAL]
        transform = min(transforms, key=lambda name: self._error(name, penalty))
        if self.options.regularisation is None and len(self.support) >= FEWEST_FOR_PENALTY:
            penalty = self._climb(transform)
        tried = tuple((*key, error) for key, error in sorted(self.errors.items()))
        return Choice(transform, penalty, tried)

    def _climb(self, transform: str) -> float:
        """First towards smaller penalties; only if that did not help, towards larger ones."""
        best = PENALTIES[USUAL]
        for path in (PENALTIES[USUAL - 1 :: -1], PENALTIES[USUAL + 1 :]):
            for penalty in path:
                if not self._wins(transform, penalty, best):
                    break
                best = penalty
            if best != PENALTIES[USUAL]:
                break
        return best

    def _wins(self, transform: str, penalty: float, best: float) -> bool:
        """Lower error by more than the noise of the paired differences."""
        gains = self._losses(transform, best) - self._losses(transform, penalty)
        mean = float(self.share @ gains)
        error = np.sqrt(float(self.share**2 @ (gains - mean) ** 2))
        return bool(mean > NOISE * error)

    def _error(self, transform: str, penalty: float) -> float:
        return float(self.share @ self._losses(transform, penalty))

    def _losses(self, transform: str, penalty: float) -> Doubles:
        key = (transform, penalty)
        if key not in self.scores:
            if transform not in self.spans:
                self.spans[transform] = span_of(self.support, transform)
            self.scores[key] = dual_scores(self.spans[transform].gram, self.support, penalty)
            losses = self.scores[key].losses[self.rows]
            self.errors[key] = float(self.share @ losses)
        return self.scores[key].losses[self.rows]
