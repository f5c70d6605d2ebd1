"""When a batch starts: one image alone never waits, and many who come fast wait for each other, shortly."""

import pytest

from service.devices.buckets import Buckets, BucketTimes
from service.devices.policy import LONGEST_WAIT_S, BatchPolicy

SIZES = Buckets((1, 2, 4, 8, 16))


def policy(fixed_s: float, per_image_s: float) -> BatchPolicy:
    return BatchPolicy(BucketTimes(SIZES, {size: fixed_s + per_image_s * size for size in SIZES.sizes}))


def after_arrivals(found: BatchPolicy, every_s: float, count: int = 100) -> BatchPolicy:
    for i in range(count):
        found.arrived(i * every_s)
    return found


def test_nobody_waits_before_anything_is_known() -> None:
    assert policy(0.004, 0.0001).wait_s(1, 0.0) == 0


def test_a_slow_client_never_waits() -> None:
    found = after_arrivals(policy(0.004, 0.0001), every_s=0.01)
    assert [found.wait_s(waiting, 0.0) for waiting in (1, 2, 15)] == [0, 0, 0]


def test_a_core_never_waits() -> None:
    found = after_arrivals(policy(0.0, 0.006), every_s=0.0001)
    assert [found.wait_s(waiting, 0.0) for waiting in (1, 2, 15)] == [0, 0, 0]


def test_a_gpu_waits_for_more_while_that_is_cheaper_than_another_batch() -> None:
    found = after_arrivals(policy(0.004, 0.0001), every_s=0.0005)
    waits = [found.wait_s(waiting, 0.0) for waiting in range(1, 17)]
    assert all(0 < wait <= LONGEST_WAIT_S for wait in waits[:7])
    assert set(waits[8:]) == {0}  # eight images delayed by 0.5 ms cost as much as a batch


def test_the_wait_ends_with_the_age_of_the_first() -> None:
    found = after_arrivals(policy(0.004, 0.0001), every_s=0.0005)
    assert found.wait_s(2, 0.0) == pytest.approx(0.001, rel=0.02)
    assert found.wait_s(2, 0.0006) == pytest.approx(0.0004, rel=0.05)
    assert found.wait_s(2, 0.002) == 0


def test_a_full_batch_does_not_wait() -> None:
    found = after_arrivals(policy(0.1, 0.0001), every_s=0.0001)
    assert found.wait_s(16, 0.0) == 0


def test_times_follow_what_is_measured() -> None:
    found = policy(0.004, 0.0001)
    for _ in range(100):
        found.ran(4, 0.1)
    assert found.times.seconds[4] == pytest.approx(0.1, rel=0.01)
    assert found.times.seconds[8] == pytest.approx(0.0048)
