"""Choosing the transform and the penalty by held-out error. Knows no calibration, no report and no file.

The error is the log loss of calibrated held-out scores, on at most `MAX_TRIED` examples: the best choice
hardly depends on their number. The transform with the lower error is taken; the penalty moves away from its
usual value only for a gain beyond the noise. A squared error takes smaller scores for worse ones, and so does
not see that many classes want a larger penalty; with few examples, and with several labels, it is taken all
the same: there it chooses as well and costs nothing.
"""

from dataclasses import dataclass

import numpy as np

from training.heads.calibration import calibrate
from training.heads.definite import Numbers
from training.heads.moments import Moments, moments_of
from training.heads.options import FitOptions
from training.heads.portion import portion_of
from training.heads.ridge import (
    DualScores,
    Ridge,
    Solution,
    Span,
    dual_scores,
    fit_dual,
    fit_primal,
    is_dual,
    margin_of,
    span_of,
    unmasked,
)
from training.heads.support import Doubles, SupportSet
from training.heads.threads import one_thread_for
from training.heads.transform import TRANSFORMS

MAX_TRIED, MAX_CLIMBED = 256, 128
PENALTIES = (0.1, 0.3, 1.0, 5.0, 30.0)
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
    """A fit with the choice behind it; `span` and `solution` are there if it was fitted in the span of all
    examples, else `fewer` if there is a portion of them, whose moments these are."""

    choice: Choice
    fit: Ridge
    span: Span | None = None
    solution: Solution | None = None
    fewer: Moments | None = None


def select(support: SupportSet, options: FitOptions) -> Selected:
    """Choose and fit."""
    if not support.can_be_held_out.any():
        choice = Choice(
            options.transform or ONE_SHOT_TRANSFORM, options.regularisation or ONE_SHOT_PENALTY, ()
        )
        return _fit(support, choice)
    rows = support.sample(MAX_TRIED)
    tried = support if len(rows) == len(support) else support.subset(rows)
    with one_thread_for(len(tried)):
        choice, span, scores = _choose(tried, options)
    return _fit(support, choice, span, scores) if tried is support else _fit(support, choice)


def _choose(support: SupportSet, options: FitOptions) -> tuple[Choice, Span, DualScores | None]:
    """The choice by a (small) support set; its span, and its scores if of the penalty that was chosen."""
    penalty = options.regularisation or PENALTIES[USUAL]
    transforms = TRANSFORMS if options.transform is None else (options.transform,)
    spans = {name: span_of(support, name) for name in transforms}
    scores = {name: dual_scores(span.gram, support, penalty) for name, span in spans.items()}
    trials = Trials(support)
    errors = {(name, penalty): trials.mean(trials.losses(found)) for name, found in scores.items()}
    transform = min(transforms, key=lambda name: errors[name, penalty])
    usual = penalty
    if options.regularisation is None and len(support) >= FEWEST_FOR_PENALTY:
        penalty, climbed = _climb(support, spans[transform].gram)
        errors |= {(transform, value): error for value, error in climbed.items()}
    choice = Choice(transform, penalty, tuple((*key, error) for key, error in sorted(errors.items())))
    return choice, spans[transform], scores[transform] if penalty == usual else None


def _fit(
    support: SupportSet, choice: Choice, span: Span | None = None, scores: DualScores | None = None
) -> Selected:
    """Fit as was chosen; `span` and `scores` where that was done already."""
    if span or is_dual(support):
        span = span or span_of(support, choice.transform)
        scores = scores or dual_scores(span.gram, support, choice.penalty)
        fit = fit_dual(span, support, scores)
        return Selected(choice, unmasked(fit, support), span, scores.solution)
    moments, fewer = _moments(support, choice.transform)
    fit = fit_primal(support, choice.transform, choice.penalty, moments)
    return Selected(choice, unmasked(fit, support), fewer=fewer)


def _moments(support: SupportSet, transform: str) -> tuple[Moments, Moments | None]:
    """Of all examples, and of the portion of them; no product is computed twice."""
    portion = portion_of(support)
    if portion is None:
        return moments_of(support, transform, np.arange(len(support))), None
    fewer, others = (
        moments_of(support, transform, np.flatnonzero(rows)) for rows in (portion.known, ~portion.known)
    )
    return fewer + others, fewer


def _climb(support: SupportSet, gram: Numbers) -> tuple[float, dict[float, float]]:
    """The best penalty, and the error of each that was tried, on fewer examples.

    First towards smaller penalties; only if that did not help, towards larger ones.
    """
    rows = support.sample(MAX_CLIMBED)
    few, gram = support.subset(rows), gram[np.ix_(rows, rows)]
    trials = Trials(few)
    losses = {PENALTIES[USUAL]: trials.losses(dual_scores(gram, few, PENALTIES[USUAL]))}
    best = PENALTIES[USUAL]
    for path in (PENALTIES[USUAL - 1 :: -1], PENALTIES[USUAL + 1 :]):
        for penalty in path:
            losses[penalty] = trials.losses(dual_scores(gram, few, penalty))
            if not trials.is_lower(losses[penalty], losses[best]):
                break
            best = penalty
        if best != PENALTIES[USUAL]:
            break
    del losses[PENALTIES[USUAL]]  # known from more examples
    return best, {penalty: trials.mean(values) for penalty, values in losses.items()}


class Trials:
    """Held-out losses on one (small) support set."""

    def __init__(self, support: SupportSet, fewest_for_log_loss: int = FEWEST_FOR_PENALTY) -> None:
        self.support = support
        self.rows = np.flatnonzero(support.can_be_held_out)
        share = support.weights[self.rows]
        self.share = share / share.sum()
        self.by_log_loss = support.is_single and len(support) >= fewest_for_log_loss

    def mean(self, losses: Doubles) -> float:
        return float(self.share @ losses)

    def is_lower(self, losses: Doubles, others: Doubles, noise: float = NOISE) -> bool:
        """By more than `noise` standard errors of the mean of the paired differences."""
        gains = others - losses
        mean = float(self.share @ gains)
        error = np.sqrt(float(self.share**2 @ (gains - mean) ** 2))
        return bool(mean > noise * error)

    def losses(self, scores: DualScores) -> Doubles:
        """Loss (h,) of each example that can be held out."""
        if not self.by_log_loss:
            return scores.losses(self.support)[self.rows]
        held_out = scores.held_out[self.rows]
        margin = margin_of(scores.fitted, self.support.indicator)
        calibration = calibrate(self.support, self.rows, held_out, margin)
        return calibration.losses(held_out, self.support.targets[self.rows, None])[:, 0]
