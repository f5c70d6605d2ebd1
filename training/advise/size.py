"""Whether a support set is small or large, for training a network further. Knows no feature and no image."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from training.heads.support import SupportSet

# Large is what has both: 50 of each of 7 classes is small, 1,894 of 7 classes (54 to 450 of each) is large.
FEWEST_OF_EACH = 100
FEWEST_PER_DIMENSION = 0.5


@dataclass(frozen=True)
class Size:
    """How many distinct examples there are.

    Attributes
    ----------
    level : small or large
    examples : of all classes and of none
    classes : number of classes
    counts : examples of each class, by name
    negatives : examples of none of the classes
    least, median, most : examples of a class
    dimensions : length of an embedding
    per_dimension : examples for each dimension
    """

    level: Literal["small", "large"]
    examples: int
    classes: int
    counts: dict[str, int]
    negatives: int
    least: int
    median: float
    most: int
    dimensions: int
    per_dimension: float

    @classmethod
    def of(cls, support: SupportSet) -> "Size":
        """Count a support set; copies count once. Its first layer is the embedding."""
        columns = support.distinct_counts.tolist()
        counts = dict(sorted(zip(support.labels, columns, strict=False)))
        examples, dimensions = len(support), support.layers[0].dim
        median = float(np.median(list(counts.values())))
        is_large = median >= FEWEST_OF_EACH and examples >= FEWEST_PER_DIMENSION * dimensions
        return cls(
            level="large" if is_large else "small",
            examples=examples,
            classes=len(counts),
            counts=counts,
            negatives=columns[-1] if support.negatives else 0,
            least=min(counts.values()),
            median=median,
            most=max(counts.values()),
            dimensions=dimensions,
            per_dimension=examples / dimensions,
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        return asdict(self)
