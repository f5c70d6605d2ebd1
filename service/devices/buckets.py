"""Fixed batch sizes: which one a batch is filled up to, and how many images make a batch worth its time.

A GPU is at its best with a few shapes that it has seen before. Knows sizes and seconds, no device.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# The smallest size whose images per second come this close to those of the best size is large enough.
NEARLY_BEST = 0.95


@dataclass(frozen=True)
class Buckets:
    """Batch sizes, ascending.

    Raises
    ------
    ValueError
        None, not ascending, or not positive.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sizes or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise ValueError(f"expected ascending batch sizes from 1 on, found {self.sizes}")

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def over(self, count: int) -> int:
        """The smallest size that holds `count` images.

        Raises
        ------
        ValueError
            None does.
        """
        for size in self.sizes:
            if size >= count:
                return size
        raise ValueError(f"{count} images are more than the largest batch, {self.largest}")

    def under(self, count: int) -> int:
        """The largest size that `count` images fill, or the smallest size if they fill none."""
        return max((size for size in self.sizes if size <= count), default=self.sizes[0])

    def parts(self, count: int) -> list[int]:
        """How many images go into each of the fewest batches that take `count`."""
        whole, rest = divmod(count, self.largest)
        return [self.largest] * whole + ([rest] if rest else [])


@dataclass(frozen=True)
class BucketTimes:
    """How long a batch of each size takes, in seconds."""

    buckets: Buckets
    seconds: Mapping[int, float]

    @property
    def enough(self) -> int:
        """The size beyond which more images at once hardly raise the images per second."""
        rates = {size: size / self.seconds[size] for size in self.buckets.sizes}
        best = max(rates.values())
        return min(size for size, rate in rates.items() if rate >= NEARLY_BEST * best)

    def of(self, count: int) -> float:
        """How long `count` images take in one batch."""
        return self.seconds[self.buckets.over(count)]

    def take(self, waiting: int) -> int:
        """How many of the images that wait should make up the next batch.

        All, filled up to the next size; or as many as fill the size below, if that and a batch of the rest
        take less time than one that runs half empty.
        """
        most = self.enough
        if waiting >= most:
            return most
        under = self.buckets.under(waiting)
        if under >= waiting:
            return waiting
        return under if self.seconds[under] + self.of(waiting - under) < self.of(waiting) else waiting
