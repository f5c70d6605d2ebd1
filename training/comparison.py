"""What a comparison of networks found, and what follows from it in plain words. Measures nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.image_embedding import Timing
from training.shot_accuracy import ShotAccuracy
from training.usable_images import LeftOut


@dataclass(frozen=True)
class Candidate:
    """One network that could be measured.

    Attributes
    ----------
    name, digest, weights : of the extractor; `weights` says where they come from
    dim : length of its embedding
    size_bytes : of its model on disk
    timing : time of an image on this machine
    cached : images whose embeddings an earlier run had left
    accuracies : one for each number of examples, ascending
    """

    name: str
    digest: str
    weights: str
    dim: int
    size_bytes: int
    timing: Timing
    cached: int
    accuracies: tuple[ShotAccuracy, ...]

    @property
    def final(self) -> ShotAccuracy:
        """The accuracy at the greatest number of examples."""
        return self.accuracies[-1]


@dataclass(frozen=True)
class Unavailable:
    """A network that could not be measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Networks on the images of one folder.

    Attributes
    ----------
    folder : as it was given
    counts : number of usable images of each class
    left_out : images that were not used
    shots : numbers of examples of each class; `shots_left_out` are those that the folder is too small for
    seeds : number of draws of the examples
    candidates : the most accurate at the greatest number of examples first
    unavailable : in the order they were asked for
    """

    folder: str
    counts: Mapping[str, int]
    left_out: tuple[LeftOut, ...]
    shots: tuple[int, ...]
    shots_left_out: tuple[int, ...]
    seeds: int
    candidates: tuple[Candidate, ...]
    unavailable: tuple[Unavailable, ...]

    @property
    def best(self) -> Candidate:
        """The most accurate at the greatest number of examples; of equals, the fastest."""
        return self.candidates[0]

    @property
    def cheapest(self) -> Candidate:
        """The fastest whose accuracy is within the interval of the best."""
        rivals = [other for other in self.candidates if other.final.mean >= self.best.final.low]
        return min(rivals, key=lambda other: other.timing.total_ms)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values; `best` and `cheapest` are names, null if nothing could be measured."""
        found = asdict(self)
        found["left_out"] = [{"path": str(left.path), "reason": left.reason} for left in self.left_out]
        found["best"] = self.best.name if self.candidates else None
        found["cheapest"] = self.cheapest.name if self.candidates else None
        found["recommendation"] = recommend(self) if self.candidates else None
        return found


def recommend(comparison: Comparison) -> str:
    """The best network, and the cheapest that is as good as far as these images tell, in plain words."""
    best, cheapest = comparison.best, comparison.cheapest
    final, guessing = best.final, 1 / len(comparison.counts)
    examples = f"{final.shots} {'example' if final.shots == 1 else 'examples'} of each class"
    alone = len(comparison.candidates) == 1
    text = (
        f"{best.name} is {'the only one measured' if alone else 'the most accurate on these images'}: "
        f"{percent(final.mean)} at {examples} (95 % interval {percent(final.low)} to {percent(final.high)}), "
        f"{best.timing.total_ms:.1f} ms an image."
    )
    if final.low <= guessing:
        return f"{text} That is not told from guessing ({percent(guessing)}): choose by other images."
    if alone:
        return text
    if cheapest is best:
        return f"{text} No cheaper one is within that interval: choose {best.name}."
    ratio = best.timing.total_ms / cheapest.timing.total_ms
    return (
        f"{text} {cheapest.name} is the cheapest within that interval: {percent(cheapest.final.mean)}, "
        f"{cheapest.timing.total_ms:.1f} ms an image, {ratio:.1f} times faster. Choose {cheapest.name}, or "
        f"{best.name} if time does not matter."
    )


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"
