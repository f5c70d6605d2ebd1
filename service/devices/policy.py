"""When the next batch starts, and how many images it takes: at once, and as many as wait, while that pays.

While the device works, whatever comes waits, and goes into the next batch together: under load batches grow
by themselves (as in Clipper, Crankshaw et al., NSDI 2017, without its delay). An idle device does not wait
for more: neither a fixed delay nor one derived from the time between arrivals was better than none
(docs/experiments.md, `make bench-batching`). Knows no clock, no thread and no device.
"""

from dataclasses import dataclass

from service.devices.buckets import BucketTimes

# The share of the newest measurement in the time of a batch size.
NEWEST = 0.1


@dataclass
class BatchPolicy:
    """Decides for one graph on one device.

    Parameters
    ----------
    times : how long each batch size takes, as the warm-up found.
    """

    times: BucketTimes

    def ran(self, size: int, seconds: float) -> None:
        """A batch of this size has run."""
        before = self.times.seconds[size]
        seconds = before + NEWEST * (seconds - before)
        self.times = BucketTimes(self.times.buckets, {**self.times.seconds, size: seconds})

    def is_enough(self, waiting: int) -> bool:
        """Whether more images at once would hardly raise the images per second."""
        return waiting >= self.times.enough

    def take(self, waiting: int) -> int:
        """How many of the waiting images the next batch takes at most."""
        return self.times.take(waiting)
