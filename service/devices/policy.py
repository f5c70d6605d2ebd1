"""When the next batch starts, and how many images it takes.

While the device works, whatever comes waits, and goes into the next batch together: under load batches grow
by themselves. The only question is an idle device. To start at once costs whoever comes next the fixed time
of another batch; to wait delays all who are here. `BatchPolicy` weighs one against the other with what it has
measured: the time between arrivals, and the time of each batch size. Knows no clock, no thread, no device.

Waiting until the batch is full or a while has passed is that of Clipper (Crankshaw et al., NSDI 2017) and
Triton; here the while is not a setting.
"""

from dataclasses import dataclass, field

from service.devices.buckets import Buckets, BucketTimes

# The share of the newest measurement in an average of all.
NEWEST = 0.1
# Nobody waits longer than this for others, whatever the averages say, in seconds.
LONGEST_WAIT_S = 0.005
# A longer pause says nothing about the time between arrivals under load, in seconds.
PAUSE_S = 0.1


@dataclass
class BatchPolicy:
    """Decides for one graph on one device.

    Parameters
    ----------
    times : how long each batch size takes, as the warm-up found.
    """

    times: BucketTimes
    _gap_s: float = field(default=PAUSE_S, init=False)
    _last_s: float | None = field(default=None, init=False)

    @property
    def buckets(self) -> Buckets:
        return self.times.buckets

    def arrived(self, now_s: float) -> None:
        """Another request has come."""
        if self._last_s is not None:
            gap_s = min(now_s - self._last_s, PAUSE_S)
            self._gap_s += NEWEST * (gap_s - self._gap_s)
        self._last_s = now_s

    def ran(self, size: int, seconds: float) -> None:
        """A batch of this size has run."""
        before = self.times.seconds[size]
        seconds = before + NEWEST * (seconds - before)
        self.times = BucketTimes(self.buckets, {**self.times.seconds, size: seconds})

    def wait_s(self, waiting: int, age_s: float) -> float:
        """How long an idle device should wait for the next request before it starts, in seconds.

        Parameters
        ----------
        waiting : images that are here.
        age_s : how long the first of them has waited.

        Returns
        -------
        0 if it should start now: the batch is large enough, or the delay of all that are here would cost more
        than the fixed time of the batch that is saved.
        """
        if waiting >= self.times.enough:
            return 0.0
        fixed_s = self.times.fixed_s
        if waiting * self._gap_s >= fixed_s:
            return 0.0
        return max(0.0, min(2 * self._gap_s, fixed_s, LONGEST_WAIT_S) - age_s)

    def take(self, waiting: int) -> int:
        """How many of the waiting images the next batch takes at most."""
        return self.times.take(waiting)
