"""What is probably wrong with labelled examples: labels, copies and outliers. Knows no store and no HTTP."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.heads.fit import DEFAULT_OPTIONS
from training.heads.gathering import gather
from training.heads.layer_choice import choose_layers
from training.heads.neighbours import Copies, find_copies, find_neighbours
from training.heads.options import FitOptions
from training.heads.outliers import held_out_typicality
from training.heads.support import NEGATIVE_LABEL, Doubles, SupportSet
from training.heads.suspicion import held_out_chances

LIKENESS_TRANSFORM = "l2"  # separates copies from other images as well as the signed root does


@dataclass(frozen=True)
class LabelError:
    """How likely the label of an example is wrong.

    Attributes
    ----------
    index : position among the examples that were given
    label, suggested : the label it has, and the most probable other one
    probability_given, probability_suggested : held-out, calibrated
    score : probability that the label is wrong, 1 - probability_given
    """

    index: int
    label: str
    suggested: str
    probability_given: float
    probability_suggested: float
    score: float

    @property
    def is_probable(self) -> bool:
        """Whether another label is more probable than the given one."""
        return self.probability_suggested > self.probability_given


@dataclass(frozen=True)
class Duplicates:
    """Examples that are copies of each other.

    Attributes
    ----------
    indices : positions among the examples that were given, ascending, two or more
    similarity : lowest cosine that links them; 1 if the embeddings are equal
    conflicting : whether their labels differ
    """

    indices: tuple[int, ...]
    similarity: float
    conflicting: bool


@dataclass(frozen=True)
class Outlier:
    """How unlike the others an example is.

    Attributes
    ----------
    index : position among the examples that were given
    typicality : in [0, 1], about the share of examples that are farther from the nearest class
    """

    index: int
    typicality: float


@dataclass(frozen=True)
class Findings:
    """What was found, worst first.

    Attributes
    ----------
    examples : number of examples
    label_errors : every example that can be held out, by `score`: its class remains without it, and the
        extractor was not trained on it; none of a multi-label set
    duplicates : groups, those of conflicting labels first
    outliers : every example that has a class and that the extractor was not trained on, by typicality
    """

    examples: int
    label_errors: tuple[LabelError, ...]
    duplicates: tuple[Duplicates, ...]
    outliers: tuple[Outlier, ...]


def check_examples(
    embeddings: object,
    labels: Sequence[str] | Sequence[Collection[str]],
    *,
    options: FitOptions = DEFAULT_OPTIONS,
    layer_dims: Mapping[str, int] | None = None,
    unseen: Sequence[bool] | None = None,
) -> Findings:
    """Look for wrong labels, near duplicates and outliers.

    The findings depend on the set of examples and the options, not on the order of the examples. Labels and
    outliers are judged by the layers of the options, copies by the first layer of a row: taps of different
    images are too alike. An extractor that was trained on an example sees it as its label says, right or
    wrong: such examples are compared, but not judged.

    Parameters
    ----------
    embeddings, labels, options, layer_dims, unseen : as `fit_head` takes them

    Raises
    ------
    NoExamplesError, TooFewClassesError, SupportSetError
        As `fit_head`.
    """
    rows = gather(embeddings, labels, options.task, options.seed, layer_dims, unseen)
    support, first = choose_layers(rows, options).support, rows.on(rows.layers[:1])
    members = _members(support)
    features = first.features(LIKENESS_TRANSFORM)
    neighbours = find_neighbours(features)
    if support.layers != first.layers:
        features = support.features(LIKENESS_TRANSFORM)
    return Findings(
        examples=len(support.place),
        label_errors=_label_errors(support, options, members) if support.is_single else (),
        duplicates=_duplicates(support, find_copies(support, neighbours), members),
        outliers=_outliers(support, held_out_typicality(features, support), members),
    )


def _members(support: SupportSet) -> list[list[int]]:
    """The caller's rows of each distinct example, ascending."""
    order = np.argsort(support.place, kind="stable")
    return [rows.tolist() for rows in np.split(order, np.cumsum(support.multiplicity)[:-1])]


def _label_errors(
    support: SupportSet, options: FitOptions, members: list[list[int]]
) -> tuple[LabelError, ...]:
    rows, chances = held_out_chances(support, options)
    if not len(rows):
        return ()
    names = (*support.labels, NEGATIVE_LABEL)
    targets, places = support.targets[rows], np.arange(len(rows))
    given = chances[places, targets]
    others = chances.copy()
    others[places, targets] = -1
    suggested = others.argmax(axis=1)
    found = []
    for place in np.argsort(given, kind="stable").tolist():
        label, other = names[targets[place]], names[suggested[place]]
        own, best = float(given[place]), float(chances[place, suggested[place]])
        found += [LabelError(index, label, other, own, best, 1 - own) for index in members[rows[place]]]
    return tuple(found)


def _duplicates(
    support: SupportSet, groups: Iterable[Copies], members: list[list[int]]
) -> tuple[Duplicates, ...]:
    found = []
    for group in groups:
        indices = sorted(index for row in group.rows for index in members[row])
        labels = support.indicator[list(group.rows)]
        found.append(Duplicates(tuple(indices), group.similarity, bool((labels != labels[0]).any())))
    return tuple(sorted(found, key=lambda group: (not group.conflicting, -group.similarity)))


def _outliers(support: SupportSet, typicality: Doubles, members: list[list[int]]) -> tuple[Outlier, ...]:
    has_class = np.asarray(support.indicator[:, : len(support.labels)].any(axis=1))
    is_judged = has_class if support.unseen is None else has_class & support.unseen
    return tuple(
        Outlier(index, float(typicality[row]))
        for row in np.argsort(typicality, kind="stable").tolist()
        if is_judged[row]
        for index in members[row]
    )
