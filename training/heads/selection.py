"""Choosing the regularisation by cross-validation, and the held-out scores that everything honest comes from.

Climbs a small grid from its middle towards the lower held-out log loss (after calibration: accuracy hardly
depends on the regularisation, sharpness does). Every solve starts from its neighbour's solution.
Knows nothing about typicality, reports or files.
"""

from dataclasses import dataclass

import numpy as np

from training.heads import logistic
from training.heads.calibration import Doubles, SharpnessPrior, fit_temperature, log_losses, probabilities
from training.heads.folds import Folds
from training.heads.support import Ints, SupportSet
from training.heads.transform import Floats

GRID = (1.0, 3.0, 10.0, 30.0, 100.0)
GRID_START = 2
SETTLED = 1e-3  # nats; below it the held-out loss has nothing left to choose by
NOISE = 1.0  # standard errors by which a neighbour must win
SEARCH_TOLERANCE = 1e-4
FINAL_TOLERANCE = 1e-8
# Best 1/temperature on unseen images, over cats_dogs, blood_cells and ham10000 (docs/experiments.md).
LOGISTIC_SHARPNESS = 3.0
SHARPNESS_DEVIATION = 0.7
SHARPNESS_EXPONENT = -0.28
MEAN_SHARPNESS = 20.0
MEAN_DEVIATION = 1.0


@dataclass(frozen=True, eq=False)
class Selected:
    """A linear head and what it does with examples that it has not seen.

    Attributes
    ----------
    weights : (k, d) float32
    bias : (k,) float64
    temperature : fitted on `scores`, or the prior's
    regularisation : C, None where the method has none
    scores : (h, k) float64, held-out scores of the rows `rows`
    rows : (h,) int64
    log_losses : held-out log loss at each C that was tried
    half_scores : (h, k) float64, the same from half of the examples; None if a class would be empty
    converged : False if a solve hit its limit of steps
    """

    weights: Floats
    bias: Doubles
    temperature: float
    regularisation: float | None
    scores: Doubles
    rows: Ints
    log_losses: tuple[tuple[float, float], ...]
    half_scores: Doubles | None
    converged: bool


@dataclass(frozen=True, eq=False)
class _Trial:
    regularisation: float
    solution: logistic.Solution
    scores: Doubles
    temperature: float
    losses: Doubles  # (h,) balanced log loss of each held-out example


class LogisticSelection:
    """One cross-validated logistic regression on a support set."""

    def __init__(self, support: SupportSet, folds: Folds) -> None:
        self.targets, self.folds, self.classes = support.targets, folds, len(support.labels)
        self.weights = folds.weights(support.targets, self.classes)
        share = self.weights[-1].astype(np.float64)
        self.center = np.asarray(share @ support.features / len(share), dtype=np.float32)
        self.shape = logistic.geometry(support.features, self.center, self.classes)
        self.held_out_weights = share[folds.held_out]

    def run(self, regularisation: float | None) -> Selected:
        best, trials = self._search(regularisation)
        start = best.solution.last()
        final = self._solve(self.weights[-1:], best.regularisation, FINAL_TOLERANCE, start)
        joined = self.shape.primal(final.coefficients)
        weights = np.ascontiguousarray(joined[:, :-1])
        bias = (
            joined[:, -1].astype(np.float64) * logistic.INTERCEPT - weights.astype(np.float64) @ self.center
        )
        tried = sorted(
            (trial.regularisation, float(trial.losses.mean())) for trial in trials if self.folds.count
        )
        return Selected(
            weights=weights,
            bias=bias,
            temperature=best.temperature,
            regularisation=best.regularisation,
            scores=best.scores,
            rows=self.folds.held_out,
            log_losses=tuple(tried),
            half_scores=self._half(best),
            converged=final.converged and best.solution.converged,
        )

    def _search(self, regularisation: float | None) -> tuple[_Trial, list[_Trial]]:
        """The best trial, and all: first towards larger C; only if that did not help, towards smaller."""
        best = self._try(GRID[GRID_START] if regularisation is None else regularisation, None)
        trials = [best]
        if regularisation is not None or not self.folds.count or best.losses.mean() < SETTLED:
            return best, trials
        for path in (GRID[GRID_START + 1 :], GRID[GRID_START - 1 :: -1]):
            for value in path:
                trials.append(self._try(value, best.solution))
                if not _better(trials[-1], best):
                    break
                best = trials[-1]
            if best is not trials[0]:
                break
        return best, trials

    def _try(self, regularisation: float, start: logistic.Solution | None) -> _Trial:
        solution = self._solve(self.weights, regularisation, SEARCH_TOLERANCE, start)
        scores = self._held_out(solution)
        targets, share = self.targets[self.folds.held_out], self.held_out_weights
        temperature = fit_temperature(scores, targets, share, logistic_prior(regularisation))
        losses = share * log_losses(probabilities(scores, temperature), targets)
        return _Trial(regularisation, solution, scores, temperature, losses)

    def _half(self, best: _Trial) -> Doubles | None:
        if not self.folds.count:
            return None
        weights = self.folds.half_weights(self.targets, self.classes)
        solution = self._solve(weights, best.regularisation, SEARCH_TOLERANCE, None)
        return self._held_out(solution)

    def _held_out(self, solution: logistic.Solution) -> Doubles:
        rows = self.folds.held_out
        return solution.scores[self.folds.assignment[rows], :, rows].astype(np.float64)

    def _solve(
        self, weights: Floats, regularisation: float, tolerance: float, start: logistic.Solution | None
    ) -> logistic.Solution:
        return logistic.solve(self.shape, self.targets, weights, regularisation, tolerance, start)


def _better(trial: _Trial, best: _Trial) -> bool:
    """Lower loss by more than the noise of the paired differences: with few examples the start stays."""
    gains = best.losses - trial.losses
    return bool(gains.mean() > NOISE * gains.std() / np.sqrt(len(gains)))


def logistic_prior(regularisation: float) -> SharpnessPrior:
    """Prior of the sharpness; a larger C gives sharper scores, which need less sharpening."""
    center = np.log(LOGISTIC_SHARPNESS) + SHARPNESS_EXPONENT * np.log(regularisation / GRID[GRID_START])
    return SharpnessPrior(float(center), SHARPNESS_DEVIATION)


def select_nearest_mean(support: SupportSet, folds: Folds) -> Selected:
    """Nearest class mean (Snell et al., "Prototypical networks", NeurIPS 2017), its folds in closed form."""
    targets, classes = support.targets, len(support.labels)
    balance = folds.weights(targets, classes)
    indicator = np.eye(classes, dtype=np.float32)[targets]
    rows = folds.held_out
    scores = np.zeros((len(rows), classes))
    for fold in range(folds.count):
        held = folds.assignment[rows] == fold
        weights, bias = _means(support.features, indicator * (balance[fold] > 0)[:, None])
        scores[held] = support.features[rows[held]] @ weights.T + bias
    prior = SharpnessPrior(float(np.log(MEAN_SHARPNESS)), MEAN_DEVIATION)
    temperature = fit_temperature(scores, targets[rows], balance[-1, rows].astype(np.float64), prior)
    weights, bias = _means(support.features, indicator)
    return Selected(weights, bias, temperature, None, scores, rows, (), None, converged=True)


def _means(features: Floats, indicator: Floats) -> tuple[Floats, Doubles]:
    means = (indicator / indicator.sum(axis=0)).T @ features
    return np.ascontiguousarray(means), -0.5 * np.vecdot(means, means).astype(np.float64)
